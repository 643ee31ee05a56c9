import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from spectral_repro.reporting.run_page import chart
from spectral_repro.reporting.style import panels


def test_charts_show_finite_points():
    drawn = chart("Loss <a>", {"train": ([1, 2, 3], [1.0, np.nan, 4.0]), "test": ([1, 2], [np.inf, np.nan])})
    (panel,) = drawn.panels
    assert panel["lines"] == {"train": [[1, 1], [3, 4]]} and panel["x"] == [1, 3] and not panel["log"]
    assert drawn.svg.count("<polyline") == 1 and "Loss &lt;a&gt; against the epoch" in drawn.svg
    assert chart("Nothing", {"train": ([], [])}) is None


def test_large_spans_are_logarithmic():
    def heights(values):
        points = re.search(r'points="([^"]*)"', chart("", {"a": ([1, 2, 3], values)}).svg)[1]
        return [float(point.split(",")[1]) for point in points.split()]

    first, second, third = heights([1, 100, 10000])
    assert first - second == pytest.approx(second - third, abs=0.2)
    first, second, third = heights([0, 1, 2])
    assert first - second == pytest.approx(second - third, abs=0.2)


def test_panels_of_a_figure_are_its_axes_with_labelled_lines():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1, 10], [2, 3], label="A")
    left.plot([1, 10], [2, 3])
    left.set_xscale("log")
    right.axhline(1)
    (panel,) = panels(figure)
    assert panel["lines"] == {"A": [[1, 2], [10, 3]]} and panel["log"]
    assert panel["box"][0] < panel["box"][2] < 0.5 and panel["box"][1] < panel["box"][3]
