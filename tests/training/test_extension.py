"""More epochs for a finished run: the same bits as a run that had them from the beginning, or an error."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from spectral_repro.errors import UserError
from spectral_repro.training import execute

SMALL = ("model=alexnet_small", "norm=zca", "norm.group_size=4", "logger=none", "spectra=largest")
TIMINGS = ["images_per_second", "step_time", "seconds"]


def content(run: Path) -> tuple[dict[str, torch.Tensor], pd.DataFrame, str]:
    weights = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    return weights, pd.read_csv(run / "metrics.csv").drop(columns=TIMINGS), (run / "spectra.csv").read_text()


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        (("schedule=constant",), ("schedule=constant",)),
        (("schedule=multistep", "schedule.milestones=[1/2]"), ("schedule=multistep", "schedule.milestones=[1/4,3/4]")),
    ],
    ids=["constant", "milestones at the same epochs"],
)
def test_an_extended_run_is_the_longer_one(train, shorter: tuple[str, ...], longer: tuple[str, ...]):
    whole = train(*SMALL, *longer, "trainer.epochs=4")
    weights, rows, spectra = content(whole)
    short = train(*SMALL, *shorter, "trainer.epochs=2")
    before = (short / "summary.json").read_text()
    assert train(*SMALL, *longer, "trainer.epochs=4", f"trainer.extend={short}", "force=true") == whole
    found, found_rows, found_spectra = content(whole)
    assert all(torch.equal(value, found[key]) for key, value in weights.items())
    pd.testing.assert_frame_equal(found_rows, rows)
    assert found_spectra == spectra and (short / "summary.json").read_text() == before
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["state"] == "finished" and summary["best"]["epoch"] == rows["test_accuracy"].idxmax() + 1
    assert (whole / "checkpoints" / "best.pt").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("trainer.epochs=2",), r"has 2 epochs; trainer\.epochs=2 must be more$"),
        (("trainer.epochs=4", "optimizer.lr=0.2"), r"differs in optimizer\.lr; only epochs and schedule may differ$"),
        (
            ("trainer.epochs=4", "schedule=cosine"),
            r"its step 0 had 1 of the full learning rate, and with these epochs and schedule it has 0\.9",
        ),
    ],
)
def test_errors_for_runs_that_cannot_be_extended(train, overrides: tuple[str, ...], message: str):
    short = train(*SMALL, "schedule=constant", "trainer.epochs=2")
    schedule = () if "schedule=cosine" in overrides else ("schedule=constant",)
    with pytest.raises(UserError, match=f"^trainer.extend={short}: {message}"):
        train(*SMALL, *schedule, *overrides, f"trainer.extend={short}", "force=true")


def test_only_a_finished_run_can_be_extended(train, tmp_path):
    short = train(*SMALL, "schedule=constant", "trainer.epochs=2")
    summary = json.loads((short / "summary.json").read_text())
    for state, processes, message in (("diverged", 1, "diverged; only a finished"), ("finished", 2, "trained by 2 processes")):
        (short / "summary.json").write_text(json.dumps(summary | {"state": state, "processes": processes}))
        with pytest.raises(UserError, match=message):
            train(*SMALL, "schedule=constant", "trainer.epochs=4", f"trainer.extend={short}")
    with pytest.raises(UserError, match=r"trainer\.extend=.*: not the folder of a training"):
        train(*SMALL, "trainer.epochs=4", f"trainer.extend={tmp_path}")


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_run_with_a_measured_layout_keeps_it_when_it_is_extended(train, monkeypatch, channels_last: bool):
    tuned = {"channels_last": channels_last, "compile": False, "milliseconds": {}}
    monkeypatch.setattr(execute, "fastest_layout", lambda config, device: tuned)
    options = (*SMALL, "schedule=constant", "trainer.autotune=true")
    short = train(*options, "trainer.epochs=1")
    monkeypatch.delattr(execute, "fastest_layout")  # a second measurement would need it
    longer = train(*options, "trainer.epochs=2", f"trainer.extend={short}")
    summary = json.loads((longer / "summary.json").read_text())
    assert summary["state"] == "finished" and summary["autotune"] == tuned
