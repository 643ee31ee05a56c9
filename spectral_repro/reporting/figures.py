"""Figures of a section: against the axis of the table, sorted methods, training curves, studies, spectra of layers."""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from spectral_repro.errors import in_one_line
from spectral_repro.reporting.against_time import caption_against_time, draw_against_time
from spectral_repro.reporting.curves import draw_curves
from spectral_repro.reporting.intervals import interval
from spectral_repro.reporting.metrics import LOSS
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Section
from spectral_repro.reporting.style import INK, PALETTE, STYLE, Look, Panel, finish, image, laid_out, looks, panels, svg
from spectral_repro.reporting.tables import aggregate

CURVES = (
    "Mean ± sample standard deviation over the finished seeds, or else over the interrupted ones up to their last common epoch."
)
SPECTRA = (
    "Largest singular value of every layer, from input to output, after every epoch, with circular padding; "
    "mean over the seeds. TT layers count as one."
)
MEASURED, PUBLISHED = "", "published_"  # prefixes of columns
WIDTHS = (5, 3)  # of the panels of measured and of published values, if these have their own
MOST_TICKS = 5  # on a linear axis, if there is one for each value
HEIGHTS = {"mean": 2.6, "success_rate": 0.9}
SEED_DOTS = {"color": PALETTE[0], "linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
MEAN_DOT = {"color": INK, "linestyle": "none", "marker": "D", "markersize": 4}
INTERVAL = {"color": "#8b8b93", "linewidth": 2.2, "solid_capstyle": "butt"}
PUBLISHED_DOT = {"color": PALETTE[5], "linestyle": "none", "marker": "s", "markersize": 4.5, "markerfacecolor": "none"}
BASELINE = {"color": INK, "linewidth": 0.8, "linestyle": (0, (4, 2))}
PUBLISHED_LINE = {"linewidth": 0.8, "marker": "o", "markersize": 4.5, "markerfacecolor": "none"}
ACROSS = 3  # panels side by side
MARKED = 20  # points of a line that have markers


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        name: of its files, without suffix.
        caption: the text below it.
        description: alternative text.
        svg: an element of a page.
        panels: the values that the page shows under the pointer.
        files: its content as "png" and "pdf".
    """

    name: str
    caption: str
    description: str
    svg: str
    panels: list[Panel]
    files: dict[str, bytes]


class NotDrawn(str):
    """A notice about a figure that could not be drawn."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        ending: appended to the name of the section for the name of the figure.
        draw: draws the figure; None if the section has no figure of this kind.
    """

    ending: str
    draw: Callable[[Section], Figure | None]
    caption: Callable[[Section], str]
    description: Callable[[Section], str]


def pictures(section: Section) -> tuple[list[Picture], list[NotDrawn]]:
    """The figures of a section, the main one first, and a notice for each figure that could not be drawn."""
    found, notices = [], []
    for kind in KINDS:
        name = f"{section.name}{kind.ending}"
        try:
            if figure := kind.draw(section):
                description = f"{kind.description(section)}, {section.label}"
                files = {form: image(figure, form) for form in ("png", "pdf")}
                drawn = svg(figure, description), panels(figure), files
                found.append(Picture(name, kind.caption(section), description, *drawn))
        except Exception as error:  # unexpected values; the other figures are still drawn
            notices.append(NotDrawn(f"{section.paper.name}, figure {name}: not drawn, {in_one_line(error)}"))
    return found, notices


def _caption_of_curves(section: Section) -> str:
    return f"{CURVES} Published curves have open markers." if section.published_epochs else CURVES


def _against_axis(section: Section) -> str:
    axis = section.table.axis
    return f"{section.table.metric.words} against {axis.label if axis else 'the rows'}"


def _against_epoch(section: Section) -> str:
    return f"{' and '.join(dict.fromkeys((LOSS.words, section.table.metric.words)))} against the epoch"


def _caption_of_dots(section: Section) -> str:
    text = "Every seed, and the mean over the seeds with its 95 % t interval (none for a single seed); the best method on top"
    if section.published and section.across:
        text += "; published values in a second panel with its own scale"
    return f"{text}."


def _caption_of_profiles(section: Section) -> str:
    text = "Mean over the finished seeds; band: standard deviation over the repeats within a run"
    return f"{text}; published values with open markers." if section.published else f"{text}."


def _caption_of_points(section: Section) -> str:
    text = "Mean ± sample standard deviation over the finished seeds, as in the table"
    if section.table.references:
        text += f"; horizontal line and band: {', '.join(section.table.references)}"
    if section.published:
        text += "; published values " + ("in panels with their own scale" if section.across else "with open markers")
    return f"{text}."


def draw_points(section: Section) -> Figure | None:
    """The means and sample standard deviations of a table against its axis. Rows that are not on the axis are horizontal lines
    with a band.

    Success rates are drawn below, if any is under 100 %. Published values have open markers, and their own panels if they were
    measured under another protocol or on another machine.

    Returns:
        The figure. None for a study, and without an axis or a result.
    """
    table, axis = section.table, section.table.axis
    if axis is None or table.metric.study or not section.results:
        return None
    sources = [MEASURED, PUBLISHED] if section.published else [MEASURED]
    columns = [[source] for source in sources] if section.across else [sources]
    together = len(columns) < len(sources)
    frame, look_of = _placed(section), looks(table.series, table.references)
    quantities = ["mean", "success_rate"] if (frame.filter(like="success_rate") < 100).any(axis=None) else ["mean"]
    heights = [HEIGHTS[quantity] for quantity in quantities]
    known = frame[[f"{source}{quantity}" for source in sources for quantity in quantities]].notna().any(axis=1)
    drawn = set(frame.loc[known, "line"])
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.3 + sum(heights)), layout="constrained")
        widths = WIDTHS[: len(columns)]
        panels = figure.subplots(
            len(heights), len(columns), sharex=True, squeeze=False, height_ratios=heights, width_ratios=widths
        )
        for quantity, row in zip(quantities, panels, strict=True):
            for axes, shown in zip(row, columns, strict=True):
                for source in shown:
                    _draw_series(axes, frame, source, quantity, look_of, joined=source == shown[0])
                if not axes.has_data():
                    text = "no finished run" if MEASURED in shown else "not published"
                    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
                if quantity == "mean":
                    axes.set(ylabel=table.metric.label, title="" if len(columns) == 1 else _title(section, shown[0]))
                else:
                    axes.set(ylabel="Success (%)", ylim=(-12, 112), yticks=(0, 50, 100))
        for axes in panels[-1]:
            axes.set_xlabel(axis.label)
        values = sorted(set(frame["at"].dropna()))
        if axis.log:
            axes.set_xscale("log")
        if axis.log or len(values) <= MOST_TICKS:
            axes.set_xticks(values, labels=[f"{value:g}" for value in values])
            axes.xaxis.set_minor_locator(NullLocator())
        handles = [look.handle(line, marker=look.marker) for line, look in look_of.items() if line in drawn]
        if together:
            handles.append(Line2D([], [], color=INK, linestyle="none", marker="o", markerfacecolor="none", label="published"))
        return finish(figure, handles)


def _title(section: Section, source: str) -> str:
    """The title of the panel of measured or of published values, if these have their own."""
    if source == MEASURED:
        return "Measured" if section.full else "Measured, reduced protocol"
    return "Published" if section.full else "Published, full protocol"


def _placed(section: Section) -> pd.DataFrame:
    """The numbers of the table, with the line and the place on the axis of each row."""
    frame = aggregate(section)
    frame["line"] = [row.series or row.label for row in section.table.rows]
    frame["at"] = pd.Series([row.at for row in section.table.rows], dtype=float)
    return frame


def _draw_series(axes: Axes, frame: pd.DataFrame, source: str, quantity: str, look_of: dict[str, Look], joined: bool) -> None:
    for line, rows in frame.sort_values("at").groupby("line", sort=False):
        look, values = look_of[line], rows[f"{source}{quantity}"]
        spread = rows[f"{source}std"] if quantity == "mean" else None
        if values.isna().all():
            continue
        if look.marker:
            joint = {"dashes": look.dashes} if joined else {"linestyle": "none"}
            points, *_ = axes.errorbar(
                rows["at"], values, spread, color=look.colour, **joint, elinewidth=1, capsize=2,
                marker=look.marker, markersize=4, markerfacecolor="none" if source == PUBLISHED else None,
            )  # fmt: skip
            points.set_label(f"{line}, published" if source == PUBLISHED else line)
            continue
        dashes = {"linestyle": ":"} if source == PUBLISHED else {"dashes": look.dashes or (1, 0)}
        axes.axhline(values.item(), color=look.colour, linewidth=1, **dashes)
        if spread is not None and spread.notna().all():
            low, high = (values - spread).item(), (values + spread).item()
            axes.axhspan(low, high, color=look.colour, alpha=0.12, linewidth=0)


def draw_dots(section: Section) -> Figure | None:
    """The mean over the seeds of each method with its 95 % t interval, and every seed; the best method is on top.

    A dashed line marks the mean of the baseline of a comparison. Published values are open squares. If they were measured under
    another protocol or on another machine, they have their own panel.

    Returns:
        The figure. None for a study, for fewer than two methods with a result, and for a table of a paper with an axis.
    """
    table, metric = section.table, section.table.metric
    if table.axis and not table.baseline:
        return None
    values = {entry.row.label: section.values(entry, metric) for entry in section.entries}
    values = {label: each[np.isfinite(each)] for label, each in values.items()}
    values = {label: each for label, each in values.items() if len(each)}
    if metric.study or len(values) < 2:
        return None
    labels = sorted(values, key=lambda label: values[label].mean(), reverse=metric.best == "max")[::-1]
    published = {entry.row.label: entry.row.published.get(table.statistic) for entry in section.entries}
    published = {label: value for label, value in published.items() if value is not None} if section.published else {}
    apart = bool(section.across and published.keys() & values.keys())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.7 + 0.2 * len(labels)), layout="constrained")
        panels = figure.subplots(1, 1 + apart, sharey=True, squeeze=False, width_ratios=WIDTHS[: 1 + apart])[0]
        for place, label in enumerate(labels):
            _draw_dot(panels[0], place, values[label], label)
            if label in published:
                panels[-1].plot(published[label], place, **PUBLISHED_DOT, label=f"_{label}, published")
        panels[0].set_yticks(range(len(labels)), labels=labels)
        panels[0].set(xlabel=metric.label, ylim=(-0.6, len(labels) - 0.4))
        panels[0].grid(visible=False, axis="y")
        if metric.unit == "%":
            low, high = panels[0].get_xlim()
            panels[0].set_xlim(max(low, 0.0), min(high, 100.0))
        if apart:
            panels[0].set_title(_title(section, MEASURED), fontsize="medium")
            panels[1].set_title(_title(section, PUBLISHED), fontsize="medium")
            panels[1].set_xlabel(metric.label)
            panels[1].grid(visible=False, axis="y")
        handles = [Line2D([], [], label="mean", **MEAN_DOT)]
        if any(len(each) > 1 for each in values.values()):
            handles += [Line2D([], [], label="its 95 % t interval", **INTERVAL), Line2D([], [], label="a seed", **SEED_DOTS)]
        if table.baseline in values:
            panels[0].axvline(values[table.baseline].mean(), zorder=0, **BASELINE)
            handles.append(Line2D([], [], label=f"mean of {table.baseline}", **BASELINE))
        if published.keys() & values.keys():
            handles.append(Line2D([], [], label="published", **PUBLISHED_DOT))
        return finish(figure, handles)


def _draw_dot(axes: Axes, place: int, values: pd.Series, label: str) -> None:
    """Draws a row. The labels begin with _, so that the page does not show them under the pointer."""
    if len(values) > 1:
        axes.plot(interval(values), (place, place), label=f"_{label}", **INTERVAL)
        axes.plot(values, np.full(len(values), place), label=f"_{label}", **SEED_DOTS)
    axes.plot(values.mean(), place, label=f"_{label}, mean", **MEAN_DOT)


def draw_profiles(section: Section) -> Figure | None:
    """One line for each series of a study: the mean over the finished seeds, with a band of the standard deviation of repeats.

    Published values have open markers, at both ends if they are a mean over a range.

    Returns:
        The figure. None for a training, and without an axis or a result.
    """
    table, axis = section.table, section.table.axis
    if not table.metric.study or axis is None or not section.results:
        return None
    look_of = looks(table.series)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=axis.label, ylabel=table.metric.label)
        runs_of = {entry.row.series: entry.in_state("finished") for entry in section.entries}
        drawn = [line for line in look_of if runs_of[line]]
        for line in drawn:
            _draw_profile(axes, line, runs_of[line], table.metric.name, look_of[line])
        for row in table.rows if section.published else ():
            if "mean" in row.published and row.series and row.over:
                axes.plot(row.over, [row.published["mean"]] * 2, color=look_of[row.series].colour, **PUBLISHED_LINE)
        if axis.log:
            ticks = sorted({at for row in table.rows for at in row.over or ()})
            axes.set_xscale("log")
            axes.set_xticks(ticks, labels=[f"{at:g}" for at in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        marked = max(len(run.metrics) for line in drawn for run in runs_of[line]) <= MARKED
        handles = [look_of[line].handle(line, marker=look_of[line].marker if marked else "") for line in drawn]
        if section.published:
            handles.append(Line2D([], [], color=INK, label="published", **PUBLISHED_LINE))
        return finish(figure, handles)


def _draw_profile(axes: Axes, line: str, runs: list[Run], column: str, look: Look) -> None:
    tables = pd.concat([run.metrics for run in runs])
    by_place = tables.replace(-np.inf, np.nan).groupby(tables.columns[0])
    mean = by_place[column].mean()
    marker = look.marker if len(mean) <= MARKED else None
    axes.plot(mean, color=look.colour, dashes=look.dashes or (1, 0), marker=marker, markersize=3.5, label=line)
    if f"{column}_std" in tables:
        spread = np.sqrt(by_place[f"{column}_std"].agg(lambda each: each.pow(2).mean()))
        axes.fill_between(mean.index, mean - spread, mean + spread, color=look.colour, alpha=0.2, linewidth=0)


def draw_spectra(section: Section) -> Figure | None:
    """Largest singular values: a panel for each method, epochs to the right and layers downwards, with one scale of colours.

    Exact values for circular padding, the mean over the finished and diverged seeds.

    Returns:
        The figure. None if no run has measured them.
    """
    values = {entry.row.label: _largest_values(entry) for entry in section.entries}
    values = {label: frame for label, frame in values.items() if not frame.empty}
    if not values:
        return None
    rows, columns = -(-len(values) // ACROSS), min(ACROSS, len(values))
    seen = np.concatenate([frame.to_numpy().ravel() for frame in values.values()])
    least, most = np.nanmin(seen, initial=np.inf, where=seen > 0), np.nanmax(seen, initial=0)
    decades = most > 10 * least
    norm, ticks = (LogNorm(least, most), LogLocator(subs=(1, 2, 5))) if decades else (Normalize(0, most), None)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.4 + 2.1 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        panels, spare = grid[: len(values)], grid[len(values) :]
        for axes, (label, frame) in zip(panels, values.items(), strict=True):
            extent = (frame.columns[0] - 0.5, frame.columns[-1] + 0.5, len(frame) + 0.5, 0.5)
            drawn = axes.imshow(frame, norm=norm, cmap="viridis", aspect="auto", interpolation="nearest", extent=extent)
            axes.set_title(label, fontsize="medium")
            axes.grid(visible=False)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        for axes in spare:
            axes.remove()
        for axes in panels[::columns]:
            axes.set_ylabel("Layer")
        figure.supxlabel("Epoch", fontsize="medium")
        figure.colorbar(drawn, ax=panels, label="Largest singular value", ticks=ticks, format="{x:g}").minorticks_off()
        return laid_out(figure)


def _largest_values(entry: Entry) -> pd.DataFrame:
    """A row for each layer, from input to output, and a column for each epoch."""
    measured = [run.spectra for run in entry.in_state("finished", "diverged") if not run.spectra.empty]
    if not measured:
        return pd.DataFrame()
    frame = pd.concat(measured).replace(np.inf, np.nan)
    values = frame.pivot_table("exact", "layer", "epoch", aggfunc="mean", sort=False, dropna=False)
    return values.loc[measured[0]["layer"].unique()]


KINDS = (
    Kind("-time", draw_against_time, caption_against_time, lambda section: f"{section.table.metric.words} against time"),
    Kind("-axis", draw_points, _caption_of_points, _against_axis),
    Kind("-sorted", draw_dots, _caption_of_dots, lambda section: f"{section.table.metric.words} of each method, sorted"),
    Kind("", draw_curves, _caption_of_curves, _against_epoch),
    Kind("", draw_profiles, _caption_of_profiles, _against_axis),
    Kind("-spectra", draw_spectra, lambda _: SPECTRA, lambda _: "Largest singular values over layers and epochs"),
)
