from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from omegaconf import OmegaConf

from spectral_repro.reporting.comparison import compare
from spectral_repro.reporting.curves import draw_curves
from spectral_repro.reporting.figures import pictures
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.runs import read_runs
from spectral_repro.reporting.sections import Entry, gather
from spectral_repro.reporting.status import line
from spectral_repro.reporting.style import image, panels, svg
from spectral_repro.reporting.tables import aggregate, formatted


@pytest.fixture(scope="module")
def section(write_run, tmp_path_factory, paper):
    """Batch norm with two seeds, ZCA-SVD with three diverged runs, ZCA-PI with one seed and a running one."""
    root = tmp_path_factory.mktemp("runs")
    make_run = partial(write_run, root)
    make_run("norm=batch", seed=0, accuracies=[50.0, 60.0, 70.0], losses=[1.0, 0.5, 0.05])
    make_run("norm=batch", seed=1, accuracies=[60.0, 80.0, 80.0], losses=[2.0, 0.7, 0.15])
    make_run("norm=zca_svd", seed=0, accuracies=[30.0, 20.0], losses=[2.0, float("nan")], state="diverged")
    make_run("norm=zca_svd", seed=1, accuracies=[35.0], state="diverged")
    make_run("norm=zca_svd", seed=2, accuracies=[], state="diverged")
    make_run("norm=zca_pi", seed=0, accuracies=[40.0, 50.0, 90.0])
    make_run("norm=zca_pi", seed=1, accuracies=[10.0], state="running")
    (section,) = gather(paper, read_runs(root, made_by="nobody")[0]).sections
    return section


@pytest.fixture(scope="module")
def figure(section):
    return draw_curves(section)


def points(line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_a_line_for_each_method_and_each_diverged_run(figure):
    loss, accuracy = figure.axes
    assert len(loss.lines) == len(accuracy.lines) == 2 + 3
    assert points(accuracy.lines[0]) == [(1, 55.0), (2, 70.0), (3, 75.0)]
    assert points(accuracy.lines[1]) == [(1, 40.0), (2, 50.0), (3, 90.0)]
    assert points(loss.lines[0]) == [(1, 1.5), (2, pytest.approx(0.6)), (3, pytest.approx(0.1))]


def test_runs_of_different_lengths_in_one_comparison(make_run, read):
    for epochs in (4, 9):
        make_run("norm=batch", f"trainer.epochs={epochs}", accuracies=[50.0] * epochs)
    (section,) = compare(read(), ["trainer.epochs"]).sections
    assert draw_curves(section).axes[0].get_xlim()[1] == pytest.approx(1.02 * 9)


def test_diverged_runs_end_in_a_cross(figure):
    loss, accuracy = figure.axes
    crosses = [line for line in accuracy.lines if line.get_marker() == "x"]
    assert [points(line) for line in crosses] == [[(1, 30.0), (2, 20.0)], [(1, 35.0)], [(0, 0.0)]]
    assert all(line.get_markevery() == [-1] for line in crosses)
    assert points(next(line for line in loss.lines if line.get_marker() == "x")) == [(1, 2.0)], "a loss that is not finite"


def test_methods_have_the_same_colour_in_all_panels(figure):
    loss, accuracy = figure.axes
    colours = [line.get_color() for line in accuracy.lines]
    assert colours == [line.get_color() for line in loss.lines]
    assert len(set(map(tuple, colours))) == 3 and len(set(map(tuple, colours[2:]))) == 1


def test_the_band_is_the_standard_deviation_of_several_seeds(figure):
    band, *others = figure.axes[1].collections
    edges = band.get_paths()[0].vertices
    heights = edges[edges[:, 0] == 2][:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((70 - 200**0.5, 70 + 200**0.5))
    assert all(len(path.vertices) == 0 or np.isnan(path.vertices).any() for other in others for path in other.get_paths())


def test_labels_and_legend(figure):
    loss, accuracy = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel(), loss.get_yscale()) == ("Epoch", "Training loss (nats)", "log")
    assert accuracy.get_yscale() == "linear"
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("Epoch", "Test accuracy (%)")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Batch norm", "ZCA, SVD", "ZCA, SVD-PI", "a run that diverged"]


def test_legend_and_labels_do_not_cover_the_data(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    (legend,) = figure.legends
    below = legend.get_window_extent(renderer).y1
    assert all(axes.get_tightbbox(renderer).y0 >= below for axes in figure.axes)
    loss, accuracy = (axes.get_tightbbox(renderer) for axes in figure.axes)
    assert loss.x1 <= accuracy.x0


def test_no_figure_without_a_result(make_run, report):
    make_run("norm=batch", accuracies=[10.0], state="running")
    (section,) = report().sections
    assert draw_curves(section) is None


def test_a_loss_within_a_decade_stays_linear(make_run, report):
    make_run("norm=batch", losses=[2.0, 1.0])
    (section,) = report().sections
    assert draw_curves(section).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("losses", [[], [float("nan")]])
def test_only_diverged_runs(make_run, report, losses):
    make_run("norm=zca_svd", accuracies=[50.0] * len(losses), losses=losses, state="diverged")
    (section,) = report().sections
    figure = draw_curves(section)
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]
    assert image(figure, "png").startswith(b"\x89PNG")


def test_the_same_figure_each_time(section, figure):
    assert svg(figure, "text") == svg(draw_curves(section), "text")


def test_a_time_has_no_curves(make_run, read, sizes_paper):
    make_run("norm=batch", columns={"step_time": [60.0, 50.0]})
    sections = {section.table.name: section for section in gather(sizes_paper, read()).sections}
    assert draw_curves(sections["times"]) is None
    assert [len(axes.lines) for axes in draw_curves(sections["sizes"]).axes] == [1, 1], "nothing on the axis yet"


@pytest.fixture(scope="module")
def with_curves():
    """A table of losses whose rows have published intervals and curves, one of them longer than our training."""
    rows = [
        {"label": "Batch", "overrides": ["norm=batch"], "published": {"mean": 0.5, "low": 0.4, "high": 0.75},
         "curve": [2.0, None, 1.0, *[None] * 27, 0.5]},
        {"label": "ZCA", "overrides": ["norm=zca_pi"], "published": {"mean": 0.25}, "curve": [1.5, 1.25]},
        {"label": "PCA", "overrides": ["norm=pca_pi"]},
    ]  # fmt: skip
    settings = {"name": "quickstart", "title": "", "source": "", "compare": ["norm"], "metric": "train_loss"}
    return load_paper(OmegaConf.create(settings | {"tables": {"table": {"title": "", "rows": rows}}}))


def test_published_curves_have_the_colour_of_their_method_and_open_markers(make_run, read, with_curves):
    for norm in ("batch", "zca_pi", "pca_pi"):
        make_run(f"norm={norm}", losses=[2.0, 1.0])
    (section,) = gather(with_curves, read()).sections
    figure = draw_curves(section)
    (axes,) = figure.axes
    ours, published = axes.lines[:3], axes.lines[3:]
    assert [points(line) for line in published] == [[(1, 2.0), (3, 1.0), (31, 0.5)], [(1, 1.5), (2, 1.25)]]
    assert [line.get_markerfacecolor() for line in published] == ["none", "none"]
    assert [line.get_color() for line in published] == [line.get_color() for line in ours[:2]]
    assert axes.get_xlim()[1] > 31 and [text.get_text() for text in figure.legends[0].get_texts()][-1] == "published"
    (_, picture), _ = pictures(section)
    assert picture.caption.endswith("Published curves have open markers.")
    assert picture.description == f"Training loss against the epoch, {section.label}"


def test_a_published_interval_has_a_column(make_run, read, with_curves):
    make_run("norm=batch", losses=[2.0, 1.0])
    (section,) = gather(with_curves, read()).sections
    frame = formatted(section)
    assert frame["published", "95 %\ninterval"].tolist() == ["0.400 to 0.750", "–", "–"]
    assert frame["published", "mean ± std"].tolist() == ["0.500", "0.250", "–"]
    assert aggregate(section)[["published_low", "published_high"]].iloc[0].tolist() == [0.4, 0.75]


def test_a_column_of_panels_for_each_value_of_the_axis(make_run, read, sizes_paper):
    make_run("norm=batch", accuracies=[50.0, 60.0])
    for size, accuracy in ((4, 70.0), (8, 80.0)):
        make_run("norm=zca_pi", f"norm.group_size={size}", accuracies=[50.0, accuracy], losses=[1.0, 0.01])
    make_run("norm=zca_svd", "norm.group_size=8", accuracies=[30.0], state="diverged")
    section = next(section for section in gather(sizes_paper, read()).sections if section.table.name == "sizes")
    figure = draw_curves(section)
    losses, accuracies = figure.axes[:2], figure.axes[2:]
    assert figure.get_suptitle() == "Group size d" and [axes.get_title() for axes in losses] == ["4", "8"]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "linear", "linear"]
    assert [[points(line)[-1] for line in axes.lines] for axes in accuracies] == [
        [(2, 70.0), (2, 60.0)],
        [(2, 80.0), (2, 60.0), (1, 30.0)],
    ]
    pi, batch = ([axes.lines[place].get_color() for axes in figure.axes] for place in (0, 1))
    assert len(set(map(str, pi))) == len(set(map(str, batch))) == 1 and str(pi[0]) != str(batch[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SVD", "PI", "Batch norm", "a run that diverged"]


def test_series_without_a_result_have_no_panels(make_run, read, sizes_paper):
    make_run("norm=batch")
    make_run("norm=zca_pi", "norm.group_size=4")
    section = next(section for section in gather(sizes_paper, read()).sections if section.table.name == "sizes")
    empty = [replace(section.table.rows[-1], label=f"row {number}", series=f"series {number}") for number in range(6)]
    table = replace(section.table, rows=(*section.table.rows, *empty))
    figure = draw_curves(replace(section, table=table, entries=(*section.entries, *(Entry(row, ()) for row in empty))))
    assert len(figure.axes) == 2 and len(figure.legends) == 1


def test_interrupted_runs_are_drawn_up_to_their_last_common_epoch(write_run, tmp_path, paper):
    write_run(tmp_path, "norm=batch", seed=0, accuracies=[50.0, 60.0, 70.0])
    write_run(tmp_path, "norm=batch", seed=1, accuracies=[0.0], state="interrupted")
    write_run(tmp_path, "norm=zca_pi", seed=0, accuracies=[40.0, 50.0, 90.0], state="interrupted")
    write_run(tmp_path, "norm=zca_pi", seed=1, accuracies=[20.0, 70.0], state="interrupted")
    (section,) = gather(paper, read_runs(tmp_path, made_by="nobody")[0]).sections
    assert [points(line) for line in draw_curves(section).axes[1].lines] == [
        [(1, 50.0), (2, 60.0), (3, 70.0)],
        [(1, 30.0), (2, 60.0)],
    ]


def test_several_runs_of_a_seed_count_as_their_mean(write_run, tmp_path, paper):
    for number, accuracies in enumerate(([40.0, 60.0], [60.0, 80.0])):
        write_run(tmp_path / f"{number}", "norm=batch", seed=0, accuracies=accuracies)
    write_run(tmp_path / "2", "norm=batch", seed=1, accuracies=[20.0, 30.0])
    runs = [run for number in range(3) for run in read_runs(tmp_path / f"{number}", made_by="nobody")[0]]
    (section,) = gather(paper, runs).sections
    accuracy = draw_curves(section).axes[1]
    assert points(accuracy.lines[0]) == [(1, 35.0), (2, 50.0)]
    heights = accuracy.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(50 + 800**0.5)  # of 70 and 30


def test_more_than_six_methods_take_several_rows_of_panels_with_a_legend_each(make_run, read):
    for size in (1, 2, 4, 8, 16, 32, 64):
        make_run("norm=zca", f"norm.group_size={size}", losses=[2.0, 1.0 / size])
    (section,) = compare(read(), ["norm"]).sections
    figure = draw_curves(section)
    drawn = [len(axes.lines) for axes in figure.axes]
    assert drawn == [6, 6, 2, 2], "the baseline is in both rows"
    labels = [[text.get_text() for text in place.legends[0].get_texts()] for place in figure.subfigs]
    assert [len(each) for each in labels] == [6, 2]
    assert set(labels[0]) | set(labels[1]) == {row.label for row in section.table.rows}
    first, second = (axes for axes in figure.axes if axes.get_ylabel() == "Test accuracy (%)")
    assert first.get_ylim() == second.get_ylim()
    tops = [panel["box"][1] for panel in panels(figure)]
    assert max(tops[:2]) < min(tops[2:]), "the second row of panels is below the first"


def test_epochs_without_an_evaluation(make_run, report, runs_folder, read):
    nan = float("nan")
    folder = make_run("norm=batch", "trainer.evaluate_every=2", accuracies=[nan, 60.0, nan, 80.0, 70.0])
    early = make_run("norm=zca_pi", "trainer.evaluate_every=2", accuracies=[nan], state="interrupted")
    for each, kept in ((folder, ["test_loss", "test_accuracy"]), (early, [])):
        rows = pd.read_csv(each / "metrics.csv")
        rows["train_accuracy"], rows.loc[rows["test_accuracy"].isna(), "test_loss"] = 50.0, nan
        rows[["epoch", "train_loss", "train_accuracy", *kept]].to_csv(each / "metrics.csv", index=False)
    section = next(section for section in report().sections if section.runs)
    loss, accuracy = draw_curves(section).axes
    assert points(accuracy.lines[0]) == [(2, 60.0), (4, 80.0), (5, 70.0)] and len(points(loss.lines[0])) == 5
    assert formatted(section).to_numpy().tolist()[0][1:3] == ["70.00", "70.00"]
    interrupted = next(run for run in read() if run.state == "interrupted")
    assert interrupted.metrics["test_accuracy"].isna().all() and len(interrupted.metrics) == 1
    assert line(interrupted, "interrupted", runs_folder).split()[-1] == interrupted.folder
