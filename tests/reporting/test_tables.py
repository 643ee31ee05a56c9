"""Tables: numbers, text, captions and notes."""

import io
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from omegaconf import OmegaConf

from spectral_repro.reporting.curves import draw_curves
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.page import render
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.runs import read_run, read_runs
from spectral_repro.reporting.sections import Section, gather
from spectral_repro.reporting.statistics import statistics
from spectral_repro.reporting.tables import (
    aggregate,
    caption,
    csv,
    evaluations,
    formatted,
    markdown,
    measurement,
    notes,
    ranges,
    spans,
)


@pytest.fixture
def sizes(sizes_paper, read) -> Callable[[str], Section]:
    """The first section of a table of the paper with an axis."""
    return lambda name: next(section for section in gather(sizes_paper, read()).sections if section.table.name == name)


@pytest.fixture
def filled(make_run):
    """Batch norm with three seeds, ZCA-SVD with one finished and two diverged, ZCA-PI with one seed and two unfinished runs."""
    for seed, accuracy in enumerate([90.0, 91.0, 95.0]):
        make_run("norm=batch", seed=seed, accuracies=[99.0, accuracy])
    make_run("norm=zca_svd", seed=0, accuracies=[40.0, 70.5])
    make_run("norm=zca_svd", seed=1, accuracies=[88.0], state="diverged")
    make_run("norm=zca_svd", seed=2, accuracies=[], state="diverged")
    make_run("norm=zca_pi", seed=0, accuracies=[50.0, 92.25])
    make_run("norm=zca_pi", seed=1, accuracies=[99.0], state="interrupted")
    make_run("norm=zca_pi", seed=2, accuracies=[99.0], state="running")


def test_numbers(filled, report):
    (section,) = report().sections
    changed = aggregate(section)
    changed["mean"] = 0.0  # it is a copy
    frame = aggregate(section).set_index("method")
    batch, svd, pi = (frame.loc[label] for label in ("Batch norm", "ZCA, SVD", "ZCA, SVD-PI"))
    assert batch["mean"] == 92.0  # (90 + 91 + 95) / 3
    assert batch["std"] == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert (batch["best"], batch["seeds"], batch["success_rate"]) == (95.0, 3, 100.0)
    assert batch["difference"] == 2.0
    assert (svd["mean"], svd["seeds"], svd["diverged"]) == (70.5, 1, 2)
    assert pd.isna(svd["std"]) and pd.isna(svd["difference"])
    assert svd["success_rate"] == pytest.approx(100 / 3)
    assert svd["published_success_rate"] == 0.0
    assert (pi["mean"], pi["best"], pi["seeds"], pi["unfinished"], pi["success_rate"]) == (92.25, 92.25, 1, 2, 100.0)


def test_text(filled, report):
    (section,) = report().sections
    frame = formatted(section)
    assert list(frame.columns) == [
        ("", "Method"), ("", "mean ± std"), ("", "best"), ("", "seeds"), ("", "success\n(%)"),
        ("published", "mean ± std"), ("published", "best"), ("published", "success\n(%)"), ("", "difference"),
    ]  # fmt: skip
    assert frame.to_numpy().tolist() == [
        ["Batch norm", "92.00 ± 2.65", "95.00", "3", "100", "90.00 ± 0.50", "91.00", "–", "+2.00"],
        ["ZCA, SVD", "70.50", "70.50", "1", "33", "–", "–", "0", "–"],
        ["ZCA, SVD-PI", "92.25", "92.25", "1", "100", "–", "–", "–", "–"],
    ]
    assert spans(frame.columns) == [("", 5), ("published", 3), ("", 1)]


@pytest.mark.parametrize("common", [1, 3])
def test_without_published_values_rows_are_compared_with_the_first_over_common_seeds(make_run, paper, read, common):
    for seed, (batch, svd) in enumerate([(90.0, 91.0), (91.0, 91.0), (95.0, 97.0)][:common]):
        make_run("norm=batch", seed=seed, accuracies=[batch])
        make_run("norm=zca_svd", seed=seed, accuracies=[svd])
    make_run("norm=zca_svd", seed=7, accuracies=[20.0])
    rows = tuple(replace(row, published={}) for row in paper.tables[0].rows)
    (section,) = gather(replace(paper, tables=(replace(paper.tables[0], rows=rows),)), read()).sections
    table, numbers = formatted(section), aggregate(section).iloc[1]
    assert (numbers["difference"], numbers["pairs"]) == (1.0, common)
    assert ("Difference: to Batch norm, the mean over common seeds" in caption(section)) == (common > 1)
    if common > 1:
        assert table["", "difference"].tolist() == ["–", "+1.00", "–"]
        assert table["", "95 %\ninterval"].tolist() == ["–", "−1.48 to +3.48", "–"]  # 1 ± 4.303 / sqrt(3)
    else:
        assert list(table.columns) == [("", name) for name in ("Method", "mean ± std", "seeds", "success\n(%)")]


def test_a_time_is_a_mean_over_epochs_and_the_smallest_is_best(make_run, sizes):
    for seed, times in enumerate(([60.0, 50.0], [52.0, 50.0])):
        make_run("norm=batch", seed=seed, columns={"step_time": times})
    make_run("norm=zca_pi", "norm.group_size=4")
    section = sizes("times")
    batch = aggregate(section).iloc[0]
    assert (batch["mean"], batch["best"], batch["difference"]) == (53.0, 51.0, -27.0)
    frame = formatted(section)
    assert list(frame.columns) == [
        ("", "Method"), ("", "mean ± std"), ("", "best"), ("", "seeds"),
        ("published", "mean ± std"), ("", "difference\nacross machines"),
    ]  # fmt: skip
    assert frame.to_numpy().tolist() == [
        ["Batch norm", "53.0 ± 2.8", "51.0", "2", "80.0", "−27.0"],
        ["PI, d = 4", "not measured", "–", "0", "–", "–"],
    ]
    assert not [column for column in aggregate(section) if "success" in column]


TWO_METRICS = """
name: quickstart
title: Two metrics
source: Someone, 2019
compare: [norm]
metric: test_accuracy
tables:
  two:
    title: Two
    source: Another, 2021
    also: [best_test_accuracy, test_top5_accuracy]
    rows:
      - {label: Batch norm, overrides: [norm=batch], published: {mean: 90.0, best_test_accuracy: 91.5}}
      - {label: "ZCA, SVD", overrides: [norm=zca_svd], published: {mean: 92.0, test_top5_accuracy: 99.0}}
"""


def test_further_metrics_of_a_table(make_run, read):
    for seed, accuracies in enumerate(([88.0, 86.0], [90.0, 90.0])):
        make_run("norm=batch", seed=seed, accuracies=accuracies, columns={"test_top5_accuracy": [95.0, 97.0 + seed]})
    (section,) = gather(load_paper(OmegaConf.create(TWO_METRICS)), read()).sections
    frame = formatted(section)
    assert list(frame.columns) == [
        ("", "Method"), ("", "mean ± std"), ("", "best"), ("", "best\nepoch"), ("", "top-5"), ("", "seeds"),
        ("", "success\n(%)"), ("published", "mean ± std"), ("published", "best\nepoch"), ("published", "top-5"),
        ("", "difference"),
    ]  # fmt: skip
    assert frame.to_numpy().tolist() == [
        ["Batch norm", "88.00 ± 2.83", "90.00", "89.00 ± 1.41", "97.50 ± 0.71", "2", "100", "90.00", "91.50", "–", "−2.00"],
        ["ZCA, SVD", "no run", "–", "–", "–", "0", "–", "92.00", "–", "99.00", "–"],
    ]
    assert "Best epoch: Test accuracy (%) in a run's best epoch. Top-5: Top-5 test accuracy (%) after the last" in markdown(
        section
    )
    assert "Published values: Another, 2021." in markdown(section)
    assert "Best epochs are chosen by test accuracy." in markdown(section)
    assert aggregate(section)["published_test_top5_accuracy"].tolist()[1] == 99.0


def test_the_best_epoch_is_that_of_the_validation_images(make_run, read):
    for seed, held_out in enumerate(([80.0, 70.0], [70.0, 80.0])):
        columns = {"validation_loss": [1.0, 1.0], "validation_accuracy": held_out}
        make_run("norm=batch", "dataset.validation_images=30", seed=seed, accuracies=[84.0, 90.0], columns=columns)
    section = next(section for section in gather(load_paper(OmegaConf.create(TWO_METRICS)), read()).sections if section.runs)
    row = formatted(section).to_numpy().tolist()[0]
    assert row[3] == "87.00 ± 4.24"  # the first epoch of seed 0, the last one of seed 1
    assert "Best epochs are chosen by validation accuracy." in markdown(section) and "30 validation images" in markdown(section)


def test_published_medians_are_compared_with_medians(make_run, read, medians_paper):
    for seed, accuracy in enumerate([90.0, 91.0, 95.0]):
        make_run("norm=batch", seed=seed, accuracies=[99.0, accuracy])
    make_run("norm=zca_pi", accuracies=[99.0, 92.0])
    (section,) = gather(medians_paper, read()).sections
    batch, pi, svd = (row for _, row in aggregate(section).iterrows())
    assert (batch["mean"], batch["median"], batch["published_median"], batch["difference"]) == (92.0, 91.0, 90.0, 1.0)
    assert batch[["median_low", "median_high"]].isna().all(), "three seeds have no interval of a median"
    assert (pi["median"], pi["difference"]) == (92.0, -1.5)
    assert svd[["median", "median_low", "median_high", "published_median", "difference"]].isna().all()
    frame = formatted(section)
    assert list(frame.columns) == [
        ("", "Method"), ("", "mean ± std"), ("", "best"), ("", "seeds"), ("", "median [95 %]"), ("", "success\n(%)"),
        ("published", "median"), ("", "difference"),
    ]  # fmt: skip
    assert frame.to_numpy().tolist() == [
        ["Batch norm", "92.00 ± 2.65", "95.00", "3", "91.00", "100", "90.00", "+1.00"],
        ["ZCA, SVD-PI", "92.00", "92.00", "1", "92.00", "100", "93.50", "−1.50"],
        ["ZCA, SVD", "no run", "–", "0", "–", "–", "–", "–"],
    ]
    assert ", and median (with its 95 % interval from six seeds on) over seeds 0–2" in markdown(section)


def test_six_seeds_have_an_interval_of_their_median(make_run, read, medians_paper):
    for seed, accuracy in enumerate([95.0, 90.0, 91.0, 94.0, 92.0, 93.0]):
        make_run("norm=batch", seed=seed, accuracies=[accuracy])
    (section,) = gather(medians_paper, read()).sections
    assert formatted(section)["", "median [95 %]"].tolist() == ["92.50 [90.00–95.00]", "–", "–"]


def test_times_of_different_machines_are_not_averaged(make_run, read, sizes_paper):
    for seed, (threads, time) in enumerate([(1, 80.0), (1, 82.0), (2, 40.0)]):
        make_run("norm=batch", seed=seed, threads=threads, columns={"step_time": [time, time]})
        make_run("norm=zca_pi", "norm.group_size=4", seed=seed, threads=threads, columns={"step_time": [2 * time, 2 * time]})
    sections = [section for section in gather(sizes_paper, read()).sections if section.table.name == "times"]
    assert [section.terms[-1] for section in sections] == ["2 x Some CPU, 1 thread", "2 x Some CPU, 2 threads"]
    assert [aggregate(section)["mean"].tolist() for section in sections] == [[81.0, 162.0], [40.0, 80.0]]
    assert len({section.name for section in sections}) == 2
    (section,) = (section for section in gather(sizes_paper, read()).sections if section.table.name == "sizes")
    times = replace(section, table=replace(section.table, also=(METRICS["step_time"],)))
    assert aggregate(times)["step_time_mean"].isna().all() and aggregate(section)["mean"].notna().any()
    assert "No step time is shown, because the runs are from different machines: 2 x Some CPU, 1 thread; 2 x" in markdown(times)


def test_extremes_of_a_row_are_those_of_its_runs(make_run, sizes):
    make_run("norm=zca_svd", "norm.group_size=4", columns={"largest_gradient": [3.0, 2.0], "smallest_gap": [1e-3, 1e-5]})
    make_run(
        "norm=zca_svd", "norm.group_size=4", seed=1, state="diverged",
        columns={"largest_gradient": [9.0, 1.0], "smallest_gap": [1e-4, 1e-2]},
    )  # fmt: skip
    make_run("norm=batch", columns={"largest_gradient": [5.0, 4.0]})
    frame = pd.read_csv(io.StringIO(csv(sizes("sizes"))), index_col="method")
    extremes = frame[["largest_gradient", "smallest_gap"]]
    assert extremes.loc["SVD, d = 4"].tolist() == [9.0, 1e-5]
    assert extremes.loc["Batch norm", "largest_gradient"] == 5.0
    assert extremes.isna().sum().tolist() == [3, 4]


def test_rows_without_a_mean_have_a_reason(make_run, report):
    make_run("norm=zca_svd", accuracies=[], state="diverged")
    make_run("norm=zca_pi", accuracies=[10.0], state="failed")
    (section,) = report().sections
    assert formatted(section)["", "mean ± std"].tolist() == ["no run", "diverged", "no finished run"]
    assert formatted(section)["", "success\n(%)"].tolist() == ["–", "0", "–"]


def test_published_values_at_a_reduced_scale(make_run, report):
    make_run("norm=batch", "scale=smoke", accuracies=[1.0, 20.0])
    (section,) = (section for section in report().sections if not section.full)
    reduced = formatted(section)
    assert reduced["published", "mean ± std"][0] == "90.00 ± 0.50"
    assert not [name for _, name in reduced if name.startswith("difference")]


def test_csv_is_numbers(filled, report):
    (section,) = report().sections
    frame = pd.read_csv(io.StringIO(csv(section)))
    assert [column for column in frame if not pd.api.types.is_numeric_dtype(frame[column])] == ["method"]
    assert frame["mean"].tolist() == [92.0, 70.5, 92.25]
    assert frame["std"][0] == pytest.approx(7**0.5, rel=1e-12)


def test_markdown_has_the_caption_first_and_a_cell_for_every_column(filled, report):
    (section,) = report().sections
    caption, table, notes = markdown(section).strip().split("\n\n")
    assert caption.startswith("Digits_1. Protocol: resnet18, digits, full scale")
    lines = table.splitlines()
    assert len(lines) == 5 and {line.count("|") for line in lines} == {10}
    assert "published mean ± std" in lines[0] and "| 92.00 ± 2.65 |" in lines[2]
    assert all(line.startswith("- ") for line in notes.splitlines())


def test_markdown_keeps_bars_inside_their_cell(make_run, report):
    make_run("norm=batch")
    (section,) = report().sections
    first, *others = section.entries
    first = replace(first, row=replace(first.row, label="a|b"))
    _, table, *_ = markdown(replace(section, entries=(first, *others))).split("\n\n")
    assert r"| a\|b " in table


def test_markdown_names_the_command_of_a_missing_row(make_run, report):
    make_run("norm=zca_svd")
    make_run("norm=zca_pi")
    (section,) = report().sections
    assert markdown(section).endswith("Rows without a run:\n\n    python -m spectral_repro.train norm=batch\n")


def test_runs_that_reached_the_epoch_of_a_table_count(make_run, read):
    make_run("norm=batch", seed=0, accuracies=[50.0, 60.0, 80.0])
    make_run("norm=batch", seed=1, accuracies=[20.0, 70.0], state="interrupted")
    make_run("norm=batch", seed=2, accuracies=[99.0], state="interrupted")
    row = {"label": "Batch norm", "overrides": ["norm=batch"], "series": "Batch norm", "over": [2, 2]}
    paper = {"name": "early", "title": "T", "source": "S", "compare": ["norm"], "metric": "test_accuracy"}
    tables = {"second_epoch": {"title": "Second", "axis": {"label": "Epoch"}, "rows": [row]}}
    (section,) = gather(load_paper(OmegaConf.create({**paper, "tables": tables})), read()).sections
    (numbers,) = aggregate(section).itertuples()
    assert (numbers.mean, numbers.seeds, numbers.unfinished) == (65.0, 2, 1)
    assert section.entries[0].successes.tolist() == [100.0], "an interrupted run has not succeeded yet"
    (row,) = statistics(section).itertuples()
    assert (row.mean, row.seeds, row.success_rate) == (65.0, 2, 100.0)
    assert "Test accuracy (%) after epoch 2, mean" in caption(section)
    assert notes(section)[0] == "Batch norm: 1 unfinished run left out of the mean (1 interrupted)."
    assert draw_curves(section) is None


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "3"), ([0, 1], "0–1"), ([0, 1, 2, 5], "0–2, 5"), ([1, 3, 5], "1, 3, 5"), ([], "")],
)
def test_ranges(numbers, text):
    assert ranges(numbers) == text


def test_caption_names_table_protocol_seeds_source_and_machine(make_run, report):
    for seed in (0, 1, 2):
        make_run("norm=batch", seed=seed, started=f"2026-03-0{seed + 1}T09:00:00+00:00")
    (section,) = report().sections
    assert caption(section) == (
        f"Digits_1. Protocol: {section.label}. "
        "Test accuracy (%) after the last epoch, mean ± sample standard deviation over seeds 0–2. "
        "Published values: Someone, 2019. "
        "Measured on 2 x Some CPU, 2 threads, torch 2.14.1, 2026-03-01 to 2026-03-03."
    )


def test_every_machine_is_named(make_run, report):
    git = {"commit": "abcdef0123", "dirty": True}
    make_run("norm=batch", device="GPU Y", threads=1, started="2026-03-01T09:00:00+00:00", git=git)
    git = {"commit": "1234567890", "dirty": False}
    make_run("norm=zca_pi", device="GPU X", threads=1, versions={}, started="2026-03-01T19:00:00+00:00", git=git)
    make_run("norm=zca_svd", device="GPU Z", state="running")
    (section,) = report().sections
    assert measurement(section).endswith(
        "Measured on GPU X, 1 thread and GPU Y, 1 thread, torch 2.14.1, commits 1234567 and abcdef0 with changes, 2026-03-01."
    )


def test_missing_keys_of_a_summary_are_left_out(make_run, report):
    make_run("norm=batch", device=None, threads=None, versions=None)
    (section,) = report().sections
    assert measurement(section).endswith("seed 0. Published values: Someone, 2019. Measured on an unnamed device.")


def test_captions_of_reduced_protocols_name_the_origin_of_published_values(make_run, report):
    make_run("norm=batch", "scale=smoke")
    reduced, full = report().sections
    assert "They are from the full protocol; do not compare them with these." in measurement(reduced)
    assert "do not compare" not in measurement(full) and "Measured" not in measurement(full)


def test_published_times_are_from_another_machine(make_run, sizes_paper, read):
    make_run("norm=batch", "scale=smoke", columns={"step_time": [60.0, 50.0]})
    reduced, full = (each for each in gather(sizes_paper, read()).sections if each.table.name == "times")
    assert measurement(full) == (
        "Step time (ms) averaged over the epochs of a run. Published values: Someone, 2019. "
        "They are from another machine, so the difference is across machines."
    )
    assert "from the full protocol and another machine; do not compare them with these" in measurement(reduced)


def test_notes_on_divergences_unfinished_runs_and_data(make_run, report):
    failure = {"step": 12, "layer": "norm1", "during": "gradient of the input", "gap": 0.0}
    make_run("norm=zca_svd", seed=1, accuracies=[10.0], state="diverged", failure=failure)
    make_run(
        "norm=zca_svd", seed=2, accuracies=[], state="diverged", failure={"step": 3, "layer": None, "during": None, "gap": None}
    )
    make_run("norm=zca_svd", seed=3, accuracies=[], state="diverged")
    make_run("norm=zca_pi", seed=0, state="interrupted")
    make_run("norm=zca_pi", seed=1, state="failed", failure={"error": "out of memory"})
    make_run("norm=zca_pi", seed=2, state="failed")
    for seed in (0, 1):
        make_run("norm=batch", seed=seed, notes=["md5 of a file differs"])
    (section,) = report().sections
    assert notes(section) == [
        "ZCA, SVD, seed 1: diverged at step 12, first the gradient of the input of norm1; smallest relative eigenvalue gap 0.",
        "ZCA, SVD, seed 2: diverged at step 3.",
        "ZCA, SVD, seed 3: diverged.",
        "ZCA, SVD-PI, seed 1: failed, out of memory.",
        "ZCA, SVD-PI: 3 unfinished runs left out of the mean (1 interrupted, 2 failed).",
        "Data: md5 of a file differs.",
    ]


STARTED = """
name: quickstart
title: Fine-tuned
source: ""
compare: [norm]
metric: test_accuracy
tables:
  started:
    title: Fine-tuned
    rows:
      - {label: Batch norm, overrides: [norm=batch, init=checkpoint]}
"""


def test_notes_name_the_initial_weights(make_run, read):
    for seed, content, accuracy in ((0, "a1", 85.0), (0, "b2", 95.0), (1, "a1", 80.0)):
        overrides = ("norm=batch", "init=checkpoint", "init.checkpoint=best.pt", f"init.content={content}")
        make_run(*overrides, seed=seed, accuracies=[accuracy])
    (section,) = gather(load_paper(OmegaConf.create(STARTED)), read()).sections
    assert section.full and len(section.results) == 3
    folders = ", ".join(run.folder for run in section.runs if run.seed == 0)
    first, *others = notes(section)
    assert first == f"Batch norm, seed 0: the mean of its 2 runs, {folders}."
    assert sorted(others) == [f"Started from trained weights (init.content={content})." for content in ("a1", "b2")]
    row = aggregate(section).iloc[0]
    assert (row["seeds"], row["mean"], row["std"]) == (2, 85.0, pytest.approx(50**0.5)), "80, and the mean of 85 and 95"


@pytest.fixture
def evaluated(make_run, evaluate):
    for seed, (ece, robust) in enumerate([(0.1, 10.0), (0.3, 20.0)]):
        evaluate(make_run("norm=batch", seed=seed), ece, robust)
    evaluate(make_run("norm=zca_pi"), 0.25, 50.0, checkpoint="best.pt", images=16)
    make_run("norm=zca_pi", seed=1)
    make_run("norm=zca_svd")


def by_calibration(paper):
    """The same paper, its table of another metric."""
    return replace(paper, tables=tuple(replace(table, metric=METRICS["ece"]) for table in paper.tables))


def test_a_row_for_each_method_and_a_column_for_each_condition(evaluated, report):
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


def test_markdown_and_page_have_the_table(evaluated, report):
    whole = report()
    (section,) = whole.sections
    assert "Measured on the trained networks:" in markdown(section) and "15.00 ± 7.07" in markdown(section)
    page = render(whole, {section.name: []})
    assert "15.00 ± 7.07" in page and "L2 0.5, 16 images, best.pt by validation accuracy" in page


def test_no_table_without_evaluations(make_run, report):
    make_run("norm=batch")
    whole = report()
    (section,) = whole.sections
    assert evaluations(section).empty and "Measured on the trained" not in markdown(section)
    assert "Measured on the trained" not in render(whole, {section.name: []})


def test_a_table_of_an_evaluation_metric(evaluated, paper, read):
    (section,) = gather(by_calibration(paper), read()).sections
    frame = aggregate(section).set_index("method")
    assert frame.loc["Batch norm", "mean"] == pytest.approx(0.2) and frame.loc["Batch norm", "seeds"] == 2
    assert frame.loc["Batch norm", "best"] == 0.1
    assert pd.isna(frame.loc["ZCA, SVD-PI", "mean"]), "a table is of the last checkpoint"
    assert formatted(section)["", "mean ± std"].tolist() == ["0.2000 ± 0.1414", "not measured", "not measured"]
    assert measurement(section).startswith("Calibration error (ECE) after the last epoch, mean ± sample standard deviation")
    assert "Measured with 15 bins." in measurement(section)
    assert draw_curves(section) is None


def test_evaluations_are_in_the_row_of_the_last_epoch(make_run, evaluate):
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
