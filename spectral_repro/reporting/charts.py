"""Small line charts of one run, drawn without matplotlib: a site has thousands of runs."""

from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from spectral_repro.reporting.figures import Panel, Series, panel

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 350, 10, 172
COLOURS = 6  # in the style sheet


@dataclass(frozen=True)
class Chart:
    """A figure of a page: SVG, and what its script shows under the pointer."""

    title: str
    svg: str
    panels: list[Panel]


def chart(title: str, series: Series, x_label: str = "Epoch") -> Chart | None:
    """Lines over a common horizontal axis, on a logarithmic vertical one if they are positive and span a factor of 50.

    None without a finite point.
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


def _scale(values: np.ndarray, first: float, last: float):
    least, most = values.min(), values.max()
    width = most - least or 1.0
    return lambda each: first + (last - first) * (each - least + (most == least) / 2) / width


def _rows(y: np.ndarray, up, log: bool) -> list[str]:
    ticks = LogLocator(numticks=5).tick_values(y.min(), y.max()) if log else MaxNLocator(5).tick_values(y.min(), y.max())
    parts = []
    for tick in ticks[(ticks >= y.min()) & (ticks <= y.max())]:
        at = up(np.log(tick) if log else tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    return parts


def _columns(x: np.ndarray, across, label: str) -> list[str]:
    ticks = MaxNLocator(6, integer=True).tick_values(x.min(), x.max())
    parts = [f'<path class="axis" d="M{LEFT} {BOTTOM + 4}H{RIGHT}"/>']
    for tick in ticks[(ticks >= x.min()) & (ticks <= x.max())]:
        parts.append(f'<text x="{across(tick):.1f}" y="{BOTTOM + 17}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="label" x="{RIGHT}" y="{HEIGHT - 1}" text-anchor="end">{escape(label)}</text>')
    return parts
