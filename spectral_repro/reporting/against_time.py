"""A table's metric against the time of a training step: one dot for each row, with its label beside it."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from spectral_repro.reporting.intervals import FEWEST, interval
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.sections import Section
from spectral_repro.reporting.style import INK, PALETTE, STYLE, finish
from spectral_repro.reporting.tables import text

STEP_TIME = METRICS["step_time"]
LOGARITHMIC_FROM = 4  # ratio of the longest to the shortest time
FRONT = {"color": PALETTE[0], "linestyle": "none", "marker": "o", "markersize": 6}
OTHER = {"color": "#62626c", "linestyle": "none", "marker": "o", "markersize": 5, "markerfacecolor": "white"}
BAR = {"color": "#a9a9b3", "linewidth": 0.9, "solid_capstyle": "butt", "marker": "_", "markersize": 5, "markeredgewidth": 0.9}
STEPS = {"color": PALETTE[0], "linewidth": 1, "linestyle": (0, (4, 2)), "drawstyle": "steps-post"}
POINTER = {"color": "#8b8b93", "linewidth": 0.5, "zorder": 1, "scalex": False, "scaley": False}
LABEL, GAP, SPACE = 7.2, 5.0, 4.0  # in points: size of a label, its distance from its dot, the space between two on a line
REACH = 9.0  # the distance of a label from its dot that needs a line
ON_A_BAR = 40  # points by which a label may be farther from its dot to lie on no bar
MISLEADING = 80  # the same, not to seem the label of another dot


def points(section: Section) -> pd.DataFrame:
    """The rows of a table that have both a time and a value.

    Columns: label; seeds, their number; time of a step in milliseconds, from the file of measured times if there is one, or
    else the mean over the runs, which must come from one machine; mean over the seeds, and its 95 % t interval from low to high
    (NaN for fewer than three seeds); front, whether no other row is both faster and better.
    """
    table, rows = section.table, []
    for entry in section.entries:
        values = section.values(entry, table.metric)
        values = values[np.isfinite(values)]
        own = entry.row.step_time if table.times_from else section.values(entry, STEP_TIME).mean()
        if len(values) and own is not None and np.isfinite(own):
            low, high = interval(values) if len(values) >= FEWEST else (np.nan, np.nan)
            rows.append((entry.row.label, len(values), own, values.mean(), low, high))
    frame = pd.DataFrame(rows, columns=["label", "seeds", "time", "mean", "low", "high"])
    merit = frame["mean"] if table.metric.best == "max" else -frame["mean"]
    order = pd.DataFrame({"time": frame["time"], "merit": -merit}).sort_values(["time", "merit"]).index
    best_before = merit[order].cummax().shift(fill_value=-np.inf)
    return frame.assign(front=(merit[order] > best_before).reindex(frame.index))


def draw_against_time(section: Section) -> Figure | None:
    """The mean of each row with its 95 % t interval, against the time of a training step relative to that of one row.

    None if the table asks for no such figure, or fewer than two rows have a time and a value.
    """
    table = section.table
    if table.against_time is None or table.metric.best is None:
        return None
    frame = points(section)
    if len(frame) < 2:
        return None
    unit = _unit(section, frame)
    times = frame["time"] / (unit or 1.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0 + 0.11 * len(frame)), layout="constrained")
        axes = figure.subplots()
        front = frame["front"].to_numpy()
        order = np.argsort(times[front].to_numpy())
        axes.plot(times[front].to_numpy()[order], frame.loc[front, "mean"].to_numpy()[order], label="_front", **STEPS)
        for time, low, high in zip(times, frame["low"], frame["high"], strict=True):
            axes.plot((time, time), (low, high), label="_interval", **BAR)
        for time, mean, best in zip(times, frame["mean"], front, strict=True):
            axes.plot(time, mean, label="_row", **(FRONT if best else OTHER))
        words = "Time of a training step (ms)"
        if unit:
            words = f"Time of a training step as a multiple of that of {table.against_time} ({text(unit, '.3g')} ms)"
        axes.set(xlabel=words, ylabel=table.metric.label)
        _scale(axes, times)
        direction = "higher" if table.metric.best == "max" else "lower"
        handles = [
            Line2D([], [], label=f"no row is faster and {direction}", **FRONT),
            Line2D([], [], label="other rows", **OTHER),
        ]
        if frame["low"].notna().any():
            handles.append(Line2D([], [], label="95 % t interval of the mean", **BAR))
        finish(figure, handles)
        _label(figure, axes, times.to_numpy(), frame)
    return figure


def caption_against_time(section: Section) -> str:
    table, frame = section.table, points(section)
    unit = _unit(section, frame)
    scale = f"; 1 is {text(unit, '.3g')} ms, that of {table.against_time}" if unit else ""
    whose = table.times_from or f"Times are the means over the runs' epochs, {section.machines[0]}"
    parts = [f"The mean over the seeds against the time of a training step{scale}.", f"{whose}."]
    shown = set(frame["label"])
    if left := [entry.row.label for entry in section.entries if entry.measured and entry.row.label not in shown]:
        parts.append(f"Without a measured time: {'; '.join(left)}.")
    return " ".join(parts)


def _unit(section: Section, frame: pd.DataFrame) -> float | None:
    own = frame.loc[frame["label"] == section.table.against_time, "time"]
    return None if own.empty else own.item()


def _scale(axes: Axes, times: pd.Series) -> None:
    """Sets the scale of the horizontal axis, with space for labels on both sides."""
    least, most = times.min(), times.max()
    if most >= LOGARITHMIC_FROM * least:
        axes.set_xscale("log")
        room = (most / least) ** 0.12
        axes.set_xlim(least / room, most * room)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.12 * (most - least) or 0.1 * most
        axes.set_xlim(least - room, most + room)


def _label(figure: Figure, axes: Axes, times: np.ndarray, frame: pd.DataFrame) -> None:
    """Writes each label at the nearest free place to its dot, with a line to the dot if it is not next to it."""
    pixels, means, best = figure.dpi / 72, frame["mean"].to_numpy(), frame["front"].to_numpy()
    dots = axes.transData.transform(np.column_stack([times, means]))
    ends = [axes.transData.transform(np.column_stack([times, frame[end].fillna(frame["mean"])])) for end in ("low", "high")]
    bars = np.concatenate([ends[0] - 1, ends[1] + 1], axis=1)
    front = dots[best][np.argsort(dots[best][:, 0])]
    corners = np.column_stack([front[1:, 0], front[:-1, 1]])  # of the steps between them
    steps = [
        np.concatenate([np.minimum(*each) - 1, np.maximum(*each) + 1], 1)
        for each in ((front[:-1], corners), (corners, front[1:]))
    ]
    few = {1: " (1 seed)", 2: " (2 seeds)"} if frame["seeds"].max() >= FEWEST else {}
    labels = [label + few.get(seeds, "") for label, seeds in zip(frame["label"], frame["seeds"], strict=True)]
    taken = np.concatenate([np.concatenate([dots - 4 * pixels, dots + 4 * pixels], axis=1), *steps])
    for row in np.lexsort([-dots[:, 1], ~best]):
        written = axes.annotate(
            labels[row], (times[row], means[row]), (0, 0), textcoords="offset points", ha="left", va="bottom",
            fontsize=LABEL, color=PALETTE[0] if best[row] else INK, fontweight="bold" if best[row] else "normal",
            annotation_clip=False, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        extent = written.get_window_extent()
        box, far = _free_place(
            dots[row],
            (extent.width + pixels, extent.height + pixels),
            axes.bbox.padded(-3 * pixels),
            np.delete(dots, row, axis=0),
            taken,
            bars,
            pixels,
        )
        written.set_position((box[:2] - dots[row]) / pixels)
        taken = np.concatenate([taken, [box + pixels * np.array([-SPACE, 0, SPACE, 0])]])
        if far:
            nearest = np.clip(dots[row], box[:2], box[2:])
            (x, y), (left, bottom) = axes.transData.inverted().transform([nearest, dots[row]])
            axes.plot((x, left), (y, bottom), label="_line", **POINTER)


def _free_place(
    dot: np.ndarray,
    size: tuple[float, float],
    within: Bbox,
    others: np.ndarray,
    taken: np.ndarray,
    bars: np.ndarray,
    pixels: float,
) -> tuple[np.ndarray, bool]:
    """The nearest box to a dot for a label of this size, and whether it is so far away that it needs a line.

    The box lies within the axes and overlaps no taken box, if possible. It lies on a bar only if the next free place is far. So
    does one whose line would touch another dot, or that is nearer to another dot.
    """
    (width, height), gap = size, GAP * pixels
    beside = [(gap, -height / 2), (-gap - width, -height / 2), (-width / 2, gap), (-width / 2, -gap - height)]
    across = np.arange(within.x0, within.x1 - width, 6 * pixels)
    up = np.arange(within.y0, within.y1 - height, height / 2)
    starts = np.concatenate([dot + beside, np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)])
    boxes = np.concatenate([starts, starts + size], axis=1)
    distance = _distance(dot, starts, size)
    far = distance > REACH * pixels
    touched = (_from_lines(dot, np.clip(dot, starts, starts + size), others) < GAP * pixels).any(1)
    nearer = np.any([_distance(other, starts, size) < distance for other in others], axis=0)
    cost = distance + np.where(np.arange(len(boxes)) < len(beside), 0, gap)
    cost += ON_A_BAR * pixels * (_overlap(boxes, bars) > 0) + MISLEADING * pixels * (far & (touched | nearer))
    inside = (boxes[:, :2] >= (within.x0, within.y0)).all(1) & (boxes[:, 2:] <= (within.x1, within.y1)).all(1)
    chosen = np.lexsort([cost, _overlap(boxes, taken), ~inside])[0]
    return boxes[chosen], bool(far[chosen])


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area of each box (left, bottom, right, top) that others cover."""
    shared = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    return shared.clip(min=0).prod(-1).sum(-1)


def _distance(dot: np.ndarray, starts: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """The distance from a dot to the nearest point of each box."""
    return np.linalg.norm(dot - np.clip(dot, starts, starts + size), axis=-1)


def _from_lines(start: np.ndarray, ends: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The distances (ends, points) of points from the lines between a start and each of several ends."""
    lines, offsets = ends - start, points - start
    share = (lines @ offsets.T) / np.square(lines).sum(1, keepdims=True).clip(min=1e-9)
    return np.linalg.norm(offsets - share.clip(0, 1)[..., None] * lines[:, None], axis=-1)
