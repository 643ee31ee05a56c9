"""The figure of a metric against the time of a training step."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from spectral_repro.errors import UserError
from spectral_repro.reporting.against_time import _from_lines, caption_against_time, draw_against_time, points
from spectral_repro.reporting.figures import pictures
from spectral_repro.reporting.papers import Paper, load_paper, supply_times
from spectral_repro.reporting.sections import Section, gather
from spectral_repro.reporting.style import image

SIZES = (2, 4, 8, 16)
TIMES = "row,milliseconds,paper,precision\nbatch,50,quickstart,float32\nzca_svd,300,quickstart,float32\nbatch,9,other,float32\n"


def settings(rows: list[dict], baseline: str = "Batch norm") -> dict:
    table = {"title": "", "against_time": baseline, "rows": rows}
    return {"name": "quickstart", "title": "", "source": "", "compare": ["norm"], "metric": "test_accuracy"} | {
        "tables": {"table": table}
    }


@pytest.fixture(scope="module")
def by_size() -> Paper:
    rows = [{"label": f"ZCA with groups of {d}", "overrides": ["norm=zca", f"norm.group_size={d}"]} for d in SIZES]
    return load_paper(OmegaConf.create(settings([{"label": "Batch norm", "overrides": ["norm=batch"]}, *rows])))


@pytest.fixture(scope="module")
def experiments() -> Paper:
    named = {"batch": "Batch norm", "zca_svd": "SVD", "zca_pi": "SVD-PI"}
    rows = [{"label": label, "overrides": [f"experiment=quickstart/{name}"]} for name, label in named.items()]
    return load_paper(OmegaConf.create(settings(rows)))


@pytest.fixture
def section(make_run, read, by_size) -> Section:
    """Three runs of batch norm, and one of ZCA at each size, with times that are close to each other."""
    for seed, accuracy in enumerate((70.0, 70.5, 71.0)):
        make_run("norm=batch", seed=seed, accuracies=[accuracy], columns={"step_time": [40.0]})
    for time, accuracy, size in zip((44.0, 60.0, 60.0, 61.0), (75.0, 74.9, 74.8, 80.0), SIZES, strict=True):
        make_run("norm=zca", f"norm.group_size={size}", accuracies=[accuracy], columns={"step_time": [time]})
    return gather(by_size, read()).sections[0]


def test_the_front_has_the_rows_that_no_other_row_beats(section):
    frame = points(section)
    assert frame["front"].tolist() == [True, True, False, False, True]
    assert frame["time"].tolist() == [40.0, 44.0, 60.0, 60.0, 61.0] and frame["mean"].iloc[0] == 70.5
    assert frame["low"].notna().tolist() == [True, False, False, False, False], "one seed has no interval"


def test_labels_do_not_overlap(section):
    figure = draw_against_time(section)
    (axes,) = figure.axes
    assert sum(text.get_fontweight() == "bold" for text in axes.texts) == 3
    batch_norm, *others = (row.label for row in section.table.rows)
    assert {text.get_text() for text in axes.texts} == {batch_norm, *(f"{label} (1 seed)" for label in others)}
    assert axes.get_xlabel() == "Time of a training step as a multiple of that of Batch norm (40 ms)"
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.get_points())
    dots = [line for line in axes.lines if line.get_label() == "_row"]
    assert sorted(line.get_xdata()[0] for line in dots) == pytest.approx([1, 1.1, 1.5, 1.5, 1.525]), "batch norm is 1"
    assert axes.get_xscale() == "linear" and image(figure, "png").startswith(b"\x89PNG")
    assert pictures(section)[0][0].name == f"{section.name}-time"
    assert "40" in caption_against_time(section) and section.machines[0] in caption_against_time(section)


def test_distances_of_points_from_lines():
    points = np.array([[2.0, 1.0], [6.0, 3.0], [-3.0, 4.0]])
    found = _from_lines(np.zeros(2), np.array([[4.0, 0.0], [0.0, 0.0], [4.0, 2.0]]), points)
    expected = [[1, 13**0.5, 5], [5**0.5, 45**0.5, 5], [0, 5**0.5, 5]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_times_from_a_file_replace_those_of_the_runs(make_run, read, experiments, tmp_path):
    for name in ("batch", "zca_svd", "zca_pi"):
        make_run(f"experiment=quickstart/{name}", columns={"step_time": [1.0, 1.0]})
    (tmp_path / "step_times.csv").write_text(TIMES)
    assert supply_times(experiments, tmp_path / "none.csv") == experiments
    section = gather(supply_times(experiments, tmp_path / "step_times.csv"), read()).sections[0]
    assert points(section)[["label", "time"]].to_numpy().tolist() == [["Batch norm", 50.0], ["SVD", 300.0]]
    caption = caption_against_time(section)
    assert "bench suite=steps" in caption and "float32" in caption and caption.endswith("Without a measured time: SVD-PI.")
    assert draw_against_time(section).axes[0].get_xscale() == "log"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,milliseconds\nbatch,1\n", "has no column row"),
        ("row,milliseconds\nbatch,fast\n", "row batch: milliseconds must be a positive number"),
        ("row,milliseconds\nbatch,-1\n", "row batch: milliseconds must be a positive number"),
        ("", "cannot be read as CSV"),
    ],
)
def test_errors_in_the_file_of_times(experiments, tmp_path: Path, content, message):
    (tmp_path / "step_times.csv").write_text(content)
    with pytest.raises(UserError, match=rf"step_times\.csv: {message}"):
        supply_times(experiments, tmp_path / "step_times.csv")


def test_the_reference_row_must_be_in_the_table():
    rows = [{"label": "Batch norm", "overrides": ["norm=batch"]}]
    with pytest.raises(UserError, match="against_time=ZCA: must be the label of a row"):
        load_paper(OmegaConf.create(settings(rows, "ZCA")))


def test_no_figure_without_times_or_if_not_asked_for(make_run, read, by_size, report):
    make_run("norm=batch")
    make_run("norm=zca", "norm.group_size=4")
    assert draw_against_time(gather(by_size, read()).sections[0]) is None
    assert draw_against_time(report().sections[0]) is None
