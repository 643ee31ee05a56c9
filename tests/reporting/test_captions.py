import pytest
from omegaconf import OmegaConf

from spectral_repro.reporting.captions import caption, measurement, notes, ranges
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.tables import aggregate


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


def test_what_a_summary_does_not_say_is_left_out(make_run, report):
    make_run("norm=batch", device=None, threads=None, versions=None)
    (section,) = report().sections
    assert measurement(section).endswith("seed 0. Published values: Someone, 2019. Measured on an unnamed device.")


def test_a_reduced_protocol_says_where_the_published_values_come_from(make_run, report):
    make_run("norm=batch", "scale=smoke")
    reduced, full = report().sections
    assert "across protocols" in measurement(reduced)
    assert "across protocols" not in measurement(full) and "Measured" not in measurement(full)


def test_times_come_from_another_machine(make_run, sizes_paper, read):
    make_run("norm=batch", "scale=smoke", columns={"step_time": [60.0, 50.0]})
    reduced, full = (each for each in gather(sizes_paper, read()).sections if each.table.name == "times")
    assert measurement(full) == (
        "Step time (ms) averaged over the epochs of a run. Published values: Someone, 2019. "
        "They come from another machine, so the difference is across machines."
    )
    assert "from the full protocol and another machine, so the difference is across protocols and machines" in measurement(
        reduced
    )


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


def test_runs_of_a_row_name_the_weights_that_they_started_from(make_run, read):
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
