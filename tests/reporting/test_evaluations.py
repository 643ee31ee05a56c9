"""What evaluation.json says, in tables and on the page."""

from dataclasses import replace

import pandas as pd
import pytest

from spectral_repro.reporting.captions import measurement
from spectral_repro.reporting.curves import draw_curves
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.page import render
from spectral_repro.reporting.runs import read_run, read_runs
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.tables import aggregate, evaluations, formatted, markdown


@pytest.fixture
def filled(make_run, evaluate):
    for seed, (ece, robust) in enumerate([(0.1, 10.0), (0.3, 20.0)]):
        evaluate(make_run("norm=batch", seed=seed), ece, robust)
    evaluate(make_run("norm=zca_pi"), 0.25, 50.0, checkpoint="best.pt", images=16)
    make_run("norm=zca_pi", seed=1)
    make_run("norm=zca_svd")


def by_calibration(paper):
    """The same paper, its table of another metric."""
    return replace(paper, tables=tuple(replace(table, metric=METRICS["ece"]) for table in paper.tables))


def test_a_row_for_each_method_and_a_column_for_each_condition(filled, report):
    (section,) = report().sections
    frame = evaluations(section)
    assert list(frame.columns) == [
        ("", "Method"),
        ("15 bins", "Calibration error (ECE)"),
        ("15 bins, best.pt by validation accuracy", "Calibration error (ECE)"),
        ("15 bins", "Brier score"),
        ("15 bins, best.pt by validation accuracy", "Brier score"),
        ("L2 0.5, 8 images", "Robust accuracy (%)"),
        ("L2 0.5, 16 images, best.pt by validation accuracy", "Robust accuracy (%)"),
    ]
    assert frame.to_numpy().tolist() == [
        ["Batch norm", "0.2000 ± 0.1414", "–", "0.4000 ± 0.2828", "–", "15.00 ± 7.07", "–"],
        ["ZCA, SVD-PI", "–", "0.2500", "–", "0.5000", "–", "50.00"],
    ]


def test_markdown_and_page_have_the_table(filled, report):
    whole = report()
    (section,) = whole.sections
    assert "Measured of the trained networks:" in markdown(section) and "15.00 ± 7.07" in markdown(section)
    page = render(whole, {section.name: []})
    assert "15.00 ± 7.07" in page and "L2 0.5, 16 images, best.pt by validation accuracy" in page


def test_nothing_measured_leaves_no_table(make_run, report):
    make_run("norm=batch")
    whole = report()
    (section,) = whole.sections
    assert evaluations(section).empty and "Measured of the trained" not in markdown(section)
    assert "Measured of the trained" not in render(whole, {section.name: []})


def test_a_table_of_what_was_measured(filled, paper, read):
    (section,) = gather(by_calibration(paper), read()).sections
    frame = aggregate(section).set_index("method")
    assert frame.loc["Batch norm", "mean"] == pytest.approx(0.2) and frame.loc["Batch norm", "seeds"] == 2
    assert frame.loc["Batch norm", "best"] == 0.1
    assert pd.isna(frame.loc["ZCA, SVD-PI", "mean"]), "a table is of the last checkpoint"
    assert formatted(section)["", "mean ± std"].tolist() == ["0.2000 ± 0.1414", "not measured", "not measured"]
    assert measurement(section).startswith("Calibration error (ECE) after the last epoch, mean ± sample standard deviation")
    assert "Measured with 15 bins." in measurement(section)
    assert draw_curves(section) is None


def test_numbers_stand_beside_the_last_epoch(make_run, evaluate):
    folder = make_run(accuracies=[10.0, 20.0])
    evaluate(folder, 0.125)
    run = read_run(folder)
    assert METRICS["ece"].of(run.metrics) == 0.125 and METRICS["test_accuracy"].of(run.metrics) == 20.0
    assert pd.isna(run.metrics["ece"].iloc[0]) and run.evaluation["calibration"]["brier"] == 0.25
    evaluate(folder, 0.5, checkpoint="best.pt")
    assert pd.isna(METRICS["ece"].of(read_run(folder).metrics))


def test_a_damaged_file_is_named(make_run, runs_folder):
    (make_run() / "evaluation.json").write_text("{")
    runs, (notice,) = read_runs(runs_folder, made_by="nobody")
    assert not runs and "left out, evaluation.json is damaged" in notice
