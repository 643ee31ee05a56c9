"""Studies as runs: what they write, and what decides their result."""

import json
import math
from itertools import islice

import pandas as pd
import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import digest, flatten, identity
from spectral_repro.configuration.rules import check
from spectral_repro.data.images import Split
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_batches
from spectral_repro.training.study import image_batches

QUICK = ("study=depth", "study.layers=5", "study.repeats=3")


def run_id(*overrides: str) -> str:
    return digest(identity(compose(overrides)))


def test_files_of_a_study(train):
    folder = train(*QUICK)
    table, summary = pd.read_csv(folder / "metrics.csv"), json.loads((folder / "summary.json").read_text())
    assert table["layer"].tolist() == [1, 2, 3, 4, 5]
    assert summary["state"] == "finished" and summary["threads"] == 1 and "images" not in summary
    assert summary["final"] == pytest.approx(table.iloc[-1].to_dict())
    assert any(folder.glob("events.out.tfevents.*")) and not (folder / "checkpoints").exists()
    saved = (folder / ".hydra" / "config.yaml").read_text()
    assert "layers: 5" in saved and "model" not in saved and "dataset" not in saved


def test_a_study_of_images_reads_the_data_set(train):
    folder = train("study=images", "study.layers=3", "study.width=5")
    table, summary = pd.read_csv(folder / "metrics.csv"), json.loads((folder / "summary.json").read_text())
    assert table["layer"].tolist() == [1, 2, 3] and table["orthogonality_gap"].between(0, 1).all()
    assert summary["images"] == {"train": 64, "test": 32}
    assert "name: digits" in (folder / ".hydra" / "config.yaml").read_text()


def test_the_same_seed_gives_the_same_rows(train):
    first, other = (pd.read_csv(train(*QUICK, f"seed={seed}") / "metrics.csv") for seed in (0, 1))
    again = pd.read_csv(train(*QUICK, "force=true") / "metrics.csv")
    pd.testing.assert_frame_equal(first, again)
    assert (first["orthogonality_gap"][1:] != other["orthogonality_gap"][1:]).all()


def test_a_width_without_spread_is_written_as_such(train):
    folder = train("study=width", "study.widths=[8,16]", "study.layers=5", "study.repeats=1", "logger=none")
    first, last = pd.read_csv(folder / "metrics.csv").to_dict("records")
    assert math.isnan(first["slope"]) and last["slope"] < 0 and math.isnan(last["slope_std"])


@pytest.mark.parametrize(
    "override", ["scale=cpu", "model.width=7", "norm=zca", "dataset=cifar10", "trainer.epochs=3", "device=cpu"]
)
def test_keys_that_a_study_does_not_read_are_ignored(override: str):
    assert run_id("study=depth", override) == run_id("study=depth")


@pytest.mark.parametrize("override", ["seed=1", "study.width=7", "study.batch_norm=false", "study=width"])
def test_what_it_reads_counts(override: str):
    assert run_id("study=depth", override) != run_id("study=depth")


def test_images_count_where_a_study_takes_batches_of_them():
    assert run_id("study=images", "dataset=cifar10") != run_id("study=images")
    assert run_id("study=images", "dataset.batch_size=8") != run_id("study=images")
    assert run_id("study=images", "dataset.root=elsewhere") == run_id("study=images")


def test_study_keys_are_absent_without_a_study():
    assert not [key for key in flatten(compose()) if key.startswith("study")]


def test_batches_continue_over_epochs_and_are_full():
    config = compose(["study=images", "study.batches=5", "dataset.batch_size=4", "dataset.crop_padding=0"])
    split = Split(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 8, 8), torch.zeros(10, dtype=torch.int64))
    found = image_batches(config, split, torch.device("cpu"))
    batches = build_batches(config, split, torch.device("cpu"), train=True)
    expected = [images for epoch in range(3) for images, _ in islice(batches.epoch(epoch), 2)][:5]
    torch.testing.assert_close(found, torch.stack(expected))


def test_too_few_images_for_a_batch(train):
    with pytest.raises(UserError, match=r"dataset\.batch_size=100: must be at most the 64 training images"):
        train("study=images", "dataset.batch_size=100")


def test_a_study_takes_any_start(train):
    """From Xavier and from the SVD of its inputs, which closes the gap; what such a start complains of is named by its key."""
    study = ("study=initial", "study.width=16", "study.depth=20", "study.batches=2", "logger=none")
    start = ("init@study.init=svd", "study.init.layers=linear", "study.init.images=24")
    by_xavier, by_svd = (pd.read_csv(train(*study, *more) / "metrics.csv") for more in ((), start))
    assert by_xavier["depth"].tolist() == by_svd["depth"].tolist() == list(range(2, 21))
    assert by_svd["initial_output_gap"].iloc[-1] < by_xavier["initial_output_gap"].iloc[-1]
    with pytest.raises(UserError, match=r"study\.init\.images=8: only 8 inputs for 16 channels, take more"):
        train(*study, *start, "study.init.images=8")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["study=depth", "study.activation=cos"], "study.activation=cos: must be identity"),
        (["study=depth", "study.start=[0,0]"], "study.start=[0, 0]: must be a list of 2 numbers"),
        (["study=width", "study.widths=[32,16]"], "study.widths=[32, 16]: must be a list"),
        (["study=initial", "study.depth=1"], "study.depth=1: must be a whole number >= 2"),
        (["study=initial", "init@study.init=svd", "study.init.images=0"], "study.init.images=0: must be a whole number >= 1"),
        (["study=images", "study.batches=0"], "study.batches=0: must be a whole number >= 1"),
    ],
)
def test_wrong_values_are_named(overrides: list[str], named: str):
    with pytest.raises(UserError) as error:
        check(compose(overrides))
    assert str(error.value).startswith(named)


def test_more_samples_than_axes_are_named_before_the_run_begins(train, tmp_path):
    with pytest.raises(UserError, match=r"study\.samples=40: must be at most the width 32, or start=null"):
        train("study=depth", "study.samples=40")
    assert not (tmp_path / "runs").exists()
