from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from omegaconf import OmegaConf

from spectral_repro.reporting.figures import draw_points
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.sections import gather


@pytest.fixture
def draw(make_run, read, sizes_paper):
    """Draws batch norm and PI at 4, two runs each; PI at 8, one; SVD at 4, one of two diverged; and at 8, both."""

    def run(*more: str):
        for seed, accuracy in enumerate((80.0, 84.0)):
            make_run("norm=batch", *more, seed=seed, accuracies=[50.0, accuracy])
            make_run("norm=zca_pi", "norm.group_size=4", *more, seed=seed, accuracies=[50.0, accuracy + 2])
            make_run("norm=zca_svd", "norm.group_size=8", *more, seed=seed, accuracies=[], state="diverged")
        make_run("norm=zca_pi", "norm.group_size=8", *more, accuracies=[50.0, 88.0])
        make_run("norm=zca_svd", "norm.group_size=4", *more, accuracies=[50.0, 70.0])
        make_run("norm=zca_svd", "norm.group_size=4", *more, seed=1, accuracies=[50.0], state="diverged")
        return draw_points(gather(sizes_paper, read()).sections[0])

    return run


def heights(axes: Axes) -> dict[str, list[float | None]]:
    """The values of each line of points, by its marker and filling; None where there is none."""
    found = {}
    for container in axes.containers:
        line = container.lines[0]
        filling = "open" if line.get_markerfacecolor() == "none" else "filled"
        found[f"{filling} {line.get_marker()}"] = [None if np.isnan(y) else y for y in line.get_ydata()]
    return found


def levels(axes: Axes) -> list[float]:
    return [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "None"]


def test_published_values_of_another_protocol_have_their_own_panels(draw):
    measured, published, success, published_success = draw("scale=smoke").axes
    assert heights(measured) == {"filled o": [70.0, None], "filled s": [84.0, 88.0]}
    assert heights(published) == {"open o": [92.0, None], "open s": [91.0, None]}
    assert heights(success) == {"filled o": [50.0, 0.0], "filled s": [100.0, 100.0]}
    assert heights(published_success) == {"open o": [40.0, 0.0]}
    assert (levels(measured), levels(published), levels(success)) == ([82.0], [90.0], [100.0])
    assert not measured.get_shared_y_axes().joined(measured, published)
    assert (measured.get_title(), published.get_title()) == ("Measured, reduced protocol", "Published, full protocol")
    assert (measured.get_ylabel(), success.get_ylabel()) == ("Test accuracy (%)", "Success (%)")


def test_published_values_of_the_full_protocol_share_the_panel(draw):
    values, success = draw().axes
    assert heights(values) == {
        "filled o": [70.0, None],
        "open o": [92.0, None],
        "filled s": [84.0, 88.0],
        "open s": [91.0, None],
    }
    assert levels(values) == [82.0, 90.0] and levels(success) == [100.0]
    assert [container.lines[0].get_linestyle() == "None" for container in values.containers] == [False, False, True, True]
    places = [container.lines[0].get_xdata(orig=False) for container in values.containers]
    assert all(place.tolist() == [4, 8] for place in places), "a point stands at its value"


def test_bars_and_bands_are_sample_standard_deviations(draw):
    measured, published, *_ = draw("scale=smoke").axes
    (bar,) = (container for container in measured.containers if container.lines[0].get_marker() == "s")
    low, high = bar.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((84 - 8**0.5, 84 + 8**0.5))
    for axes, (low, high) in ((measured, (82 - 8**0.5, 82 + 8**0.5)), (published, (89.5, 90.5))):
        (band,) = axes.patches
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))


def test_ticks_of_a_logarithmic_axis_are_the_values_and_the_legend_names_the_series(draw):
    figure = draw()
    axes = figure.axes[-1]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "Group size d"
    assert [(place, label.get_text()) for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)] == [
        (4, "4"),
        (8, "8"),
    ]
    assert len(axes.get_xticks(minor=True)) == 0
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SVD", "PI", "Batch norm", "published"]


def test_empty_panels_have_an_explanation(make_run, read, sizes_paper):
    make_run("norm=zca_svd", "norm.group_size=8", "scale=smoke", accuracies=[], state="diverged")
    measured, *_ = draw_points(gather(sizes_paper, read()).sections[0]).axes
    assert [text.get_text() for text in measured.texts] == ["no finished run"]


@pytest.fixture(scope="module")
def unpublished():
    """One series on a linear axis."""
    rows = [
        {"label": f"{size}", "overrides": ["norm=zca_pi", f"norm.group_size={size}"], "series": "PI", "at": size}
        for size in (4, 8)
    ]
    table = {"title": "", "axis": {"label": "d"}, "rows": rows}
    settings = {"name": "quickstart", "title": "", "source": "", "compare": ["norm"], "metric": "train_loss"}
    return load_paper(OmegaConf.create(settings | {"tables": {"table": table}}))


def test_one_panel_without_published_values_and_divergences(make_run, read, unpublished):
    for size, loss in ((4, 0.5), (8, 0.25)):
        make_run("norm=zca_pi", f"norm.group_size={size}", losses=[1.0, loss])
    (axes,) = draw_points(gather(unpublished, read()).sections[0]).axes
    assert heights(axes) == {"filled o": [0.5, 0.25]} and axes.get_xscale() == "linear"
    assert axes.containers[0].lines[0].get_xdata().tolist() == [4, 8]
    assert axes.get_ylabel() == "Training loss (nats)"


def test_no_figure_without_an_axis_or_a_result(make_run, read, report, sizes_paper):
    make_run("norm=batch", accuracies=[10.0], state="running")
    assert draw_points(gather(sizes_paper, read()).sections[0]) is None
    make_run("norm=batch", seed=1)
    assert draw_points(report().sections[0]) is None


def test_no_figure_without_recorded_times(make_run, read, unpublished):
    (table,) = unpublished.tables
    make_run("norm=zca_pi", "norm.group_size=4")
    paper = replace(unpublished, tables=(replace(table, metric=METRICS["step_time"]),))
    assert draw_points(gather(paper, read()).sections[0]) is None
