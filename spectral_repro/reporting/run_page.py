"""The page of a run. Its line charts are drawn without matplotlib, because a site has thousands of runs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator

from spectral_repro.reporting.page import TEMPLATES, duration
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.style import Panel, Series, panel
from spectral_repro.reporting.tables import UNKNOWN, divergence

CURVES = {
    "Loss": ("train_loss", "validation_loss", "test_loss"),
    "Accuracy (%)": ("train_accuracy", "validation_accuracy", "test_accuracy"),
    "Learning rate": ("learning_rate",),
    "Largest gradient norm": ("largest_gradient",),
    "Smallest relative gap between eigenvalues": ("smallest_gap",),
    "Images/s": ("images_per_second",),
}
LAST_EPOCHS = 12
WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 350, 10, 172
COLOURS = 6  # in the style sheet


@dataclass(frozen=True)
class Chart:
    """A figure of a page as SVG, and the values that the page shows under the pointer."""

    title: str
    svg: str
    panels: list[Panel]


def chart(title: str, series: Series, x_label: str = "Epoch") -> Chart | None:
    """A line chart. The vertical axis is logarithmic if all values are positive and span a factor of 50 or more.

    None if no point is finite.
    """
    finite = {label: _finite(*points) for label, points in series.items()}
    finite = {label: points for label, points in finite.items() if len(points[0])}
    if not finite:
        return None
    x, y = (np.concatenate([points[axis] for points in finite.values()]) for axis in (0, 1))
    log = y.min() > 0 and y.max() > 50 * y.min()
    across, up = _scale(x, LEFT, RIGHT), _scale(np.log(y) if log else y, BOTTOM, TOP)
    lines = []
    for place, (xs, ys) in enumerate(finite.values()):
        points = list(zip(across(xs), up(np.log(ys) if log else ys), strict=True))
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        lines.append(f'<polyline class="line c{place % COLOURS}" points="{path}"/>')
        if len(points) <= 20:
            lines += [f'<circle class="c{place % COLOURS}" cx="{px:.1f}" cy="{py:.1f}" r="2"/>' for px, py in points]
    drawn = "".join([*_rows(y, up, log), *_columns(x, across, x_label), *lines])
    label = escape(f"{title} against the {x_label.lower()}")
    svg = f'<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">{drawn}</svg>'
    box = (LEFT / WIDTH, TOP / HEIGHT, RIGHT / WIDTH, BOTTOM / HEIGHT)
    return Chart(title, svg, [panel(box, (x.min(), x.max()), False, finite)])


def _finite(x: object, y: object) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _scale(values: np.ndarray, first: float, last: float) -> Callable[[Any], Any]:
    least, most = values.min(), values.max()
    width = most - least or 1.0
    return lambda each: first + (last - first) * (each - least + (most == least) / 2) / width


def _rows(y: np.ndarray, up: Callable[[float], float], log: bool) -> list[str]:
    ticks = LogLocator(numticks=5).tick_values(y.min(), y.max()) if log else MaxNLocator(5).tick_values(y.min(), y.max())
    parts = []
    for tick in ticks[(ticks >= y.min()) & (ticks <= y.max())]:
        at = up(np.log(tick) if log else tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    return parts


def _columns(x: np.ndarray, across: Callable[[float], float], label: str) -> list[str]:
    ticks = MaxNLocator(6, integer=True).tick_values(x.min(), x.max())
    parts = [f'<path class="axis" d="M{LEFT} {BOTTOM + 4}H{RIGHT}"/>']
    for tick in ticks[(ticks >= x.min()) & (ticks <= x.max())]:
        parts.append(f'<text x="{across(tick):.1f}" y="{BOTTOM + 17}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="label" x="{RIGHT}" y="{HEIGHT - 1}" text-anchor="end">{escape(label)}</text>')
    return parts


@dataclass(frozen=True)
class Place:
    """A row that the run belongs to, and its address."""

    paper: str
    label: str
    target: str


def render_run(run: Run, places: Sequence[Place], links: Sequence[tuple[str, str]]) -> str:
    """The page of a run: curves, singular values of layers, environment, configuration, last epochs."""
    return TEMPLATES.get_template("run.html.j2").render(
        links=links,
        here="",
        run=run,
        failure=divergence(run) if run.state == "diverged" else "",
        rows=[(place.paper, place.label, place.target) for place in places],
        charts=_charts(run),
        facts=[("Environment", _environment(run)), ("Configuration", _configuration(run))],
        last=_last(run.metrics),
    )


def _charts(run: Run) -> list[Chart]:
    if run.metrics.empty or not run.whole:
        return []
    place, frame = run.metrics.columns[0], run.metrics
    if place == "epoch":
        drawn = {title: [column for column in columns if column in frame] for title, columns in CURVES.items()}
    else:
        drawn = {column.replace("_", " "): [column] for column in frame.columns[1:] if not column.endswith("_std")}
    charts = [
        chart(title, {column.replace("_", " "): (frame[place], frame[column]) for column in columns}, place.capitalize())
        for title, columns in drawn.items()
    ]
    if not run.spectra.empty:
        by_layer = {layer: (rows["epoch"], rows["exact"]) for layer, rows in run.spectra.groupby("layer", sort=False)}
        charts.append(chart("Largest singular values of its layers", by_layer))
    return [each for each in charts if each]


def _environment(run: Run) -> list[tuple[str, str]]:
    summary = run.summary
    machine = summary.get("machine") or {}
    wall_time, speed = summary.get("wall_time_s"), summary.get("images_per_second")
    pairs = {
        "Scale": run.scale,
        "Seed": run.seed,
        "Started": summary.get("started"),
        "Wall time": None if wall_time is None else duration(wall_time),
        "Images/s": None if speed is None else f"{speed:,.0f}",
        "Device": summary.get("device"),
        "Threads": summary.get("threads"),
        "Memory (GiB)": machine.get("memory_gib"),
        "Platform": machine.get("platform"),
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        "Code": run.commit and f"commit {run.commit}",
    }
    return [(key, str(value)) for key, value in pairs.items() if value not in (None, "")]


def _configuration(run: Run) -> list[tuple[str, str]]:
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in run.identity.items()}
    return sorted(values.items())


def _last(metrics: pd.DataFrame) -> dict[str, list]:
    rows = [
        [f"{value:.5g}" if value == value else UNKNOWN for value in row] for row in metrics.tail(LAST_EPOCHS).to_numpy(float)
    ]
    return {"columns": [column.replace("_", " ") for column in metrics.columns], "rows": rows}
