"""What a page's script needs to show the values of a figure under the pointer."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

Panel = dict[str, object]
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def panel(box: Sequence[float], limits: Sequence[float], log: bool, series: Series) -> Panel:
    """One pair of axes.

    Args:
        box: left, top, right, bottom of the axes as parts of the figure's width and height.
        limits: of the horizontal axis.
        log: is it logarithmic?
        series: horizontal and vertical coordinates of the points of each line.
    """
    lines = {label: [[_short(x), _short(y)] for x, y in zip(*points, strict=True)] for label, points in series.items()}
    return {"box": [round(each, 4) for each in box], "x": [_short(each) for each in limits], "log": log, "lines": lines}


def panels(figure: Figure) -> list[Panel]:
    """Of a figure that is laid out: its axes with labelled lines."""
    found = []
    for axes in figure.axes:
        lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
        series = {line.get_label(): tuple(map(np.asarray, (line.get_xdata(), line.get_ydata()))) for line in lines}
        if series:
            (left, bottom), (right, top) = figure.transFigure.inverted().transform(axes.bbox.get_points())
            found.append(panel((left, 1 - top, right, 1 - bottom), axes.get_xlim(), axes.get_xscale() == "log", series))
    return found


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
