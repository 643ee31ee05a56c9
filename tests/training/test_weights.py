"""Penalty, constraint and measured spectra in a training."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import identity
from spectral_repro.configuration.rules import check
from spectral_repro.constraints.operators import operators
from spectral_repro.errors import UserError
from spectral_repro.linalg import conv_norm
from spectral_repro.training.build import build_model
from spectral_repro.training.weights import add_epoch

TT = ("conv=tt", "conv.rank=6")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]


def largest(run: Path, *overrides: str) -> dict[str, float]:
    model = build_model(compose(["scale=smoke", *overrides]))
    model.load_state_dict(weights(run))
    found = operators(model, (1, 8, 8))
    return {operator.name: conv_norm(operator.weight, **operator.circular).item() for operator in found}


def test_a_bound_holds_after_training(train):
    free = largest(run := train("trainer.epochs=1"))
    assert not (run / "spectra.csv").exists()
    assert not {"penalty", "clip_remaining", "largest_singular_value"} & set(pd.read_csv(run / "metrics.csv").columns)
    options = ("constraint.every=4", "constraint.clip_to=0.75", "constraint.linear_to=0.5")  # 4 steps in all
    kept = largest(train("trainer.epochs=1", "constraint=divide_by_exact_largest", *options))
    assert max(free.values()) > 1.5
    assert kept["classifier"] <= 0.5001 and all(value <= 0.7501 for name, value in kept.items() if name != "classifier")


def test_the_values_of_every_layer_and_epoch_are_written_down(train):
    run = train("constraint=clip", "constraint.every=2", "constraint.clip_to=1", "spectra=largest", *TT)
    spectra, metrics = pd.read_csv(run / "spectra.csv"), pd.read_csv(run / "metrics.csv")
    last = spectra[spectra["epoch"] == 2].set_index("layer")
    found = {name: value for name, value in largest(run, *TT).items() if name in last.index}
    assert spectra["epoch"].tolist() == [1] * len(last) + [2] * len(last)
    assert not any(name.endswith(("core", "reduction", "expansion")) for name in last.index)
    assert last["exact"].to_dict() == pytest.approx(found, rel=1e-4)
    assert (last["power"] < 1.6 * last["exact"]).all() and (last["power"] > 0.3 * last["exact"]).all()
    assert metrics["largest_singular_value"][1] == pytest.approx(last["exact"].max())
    assert 1 <= metrics["clip_remaining"][1] < 1.5
    events = EventAccumulator(str(run))
    events.Reload()
    for kind in ("exact", "power"):
        (_, event) = events.Scalars(f"singular_value/stem/{kind}")
        assert event.value == pytest.approx(last[kind]["stem"], rel=1e-5)


def test_the_penalty_keeps_frames_orthonormal(train):
    strengths = {k: train("penalty=orthogonal", f"penalty.orthogonal_k={k}", "trainer.epochs=1", *TT) for k in (0, 1000)}
    without, kept = (pd.read_csv(run / "metrics.csv") for run in strengths.values())
    assert (without["penalty"] == 0).all()
    deviations = {}
    for k, run in strengths.items():
        frames = [value.flatten(1) for name, value in weights(run).items() if name.endswith("reduction.weight")]
        deviations[k] = sum((frame @ frame.mT - torch.eye(len(frame))).square().sum().item() for frame in frames)
    assert deviations[1000] < 0.9 * deviations[0]
    assert kept["train_loss"].iloc[-1] < 10, "the loss that is written down is without the penalty"


@pytest.mark.parametrize(
    "options",
    [
        ("constraint=divide_by_largest", "constraint.clip_to=0.7", "precision=bfloat16"),
        ("constraint=clip", "constraint.clip_to=1", "constraint.every=2", "spectra=largest"),
    ],
    ids=["divide", "clip"],
)
def test_an_interrupted_run_ends_with_the_same_bits(train, interrupt, options):
    options = ("trainer.checkpoint_every=3", "trainer.epochs=1", *options)
    whole = train(*options)
    expected = weights(whole), (whole / "metrics.csv").read_text().splitlines()[0]
    values = [(whole / name).read_text() for name in ("spectra.csv",) if (whole / name).exists()]
    interrupt(*options, "force=true")
    again = train(*options)
    assert json.loads((again / "summary.json").read_text())["steps"] == 4
    assert all(torch.equal(expected[0][key], value) for key, value in weights(again).items())
    assert [(again / name).read_text() for name in ("spectra.csv",) if (again / name).exists()] == values


def test_an_epoch_replaces_what_was_written_of_it_and_later_ones(tmp_path):
    path = tmp_path / "spectra.csv"
    for epoch, value in ((1, 3.0), (2, 4.0), (3, 5.0), (2, 6.0)):
        add_epoch(path, epoch, [{"layer": "a", "exact": value, "power": value}, {"layer": "b", "exact": 0.0, "power": 0.0}])
    frame = pd.read_csv(path)
    assert frame["epoch"].tolist() == [1, 1, 2, 2] and frame.query("layer == 'a'")["exact"].tolist() == [3.0, 6.0]


def test_a_run_is_the_same_whatever_is_measured_of_it():
    plain, measured = (identity(compose(options)) for options in ([], ["spectra=largest"]))
    assert plain == measured
    assert not any(key.startswith(("constraint", "penalty", "spectra")) for key in plain)
    assert identity(compose(["constraint=clip"])) != plain


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["constraint=clip", "constraint.clip_to=0"], "constraint.clip_to=0: must be a number > 0"),
        (["constraint=clip", "constraint.every=0"], "constraint.every=0: must be a whole number >= 1"),
        (["constraint=divide_by_largest", "constraint.iterations=0"], "constraint.iterations=0: must be a whole"),
        (["penalty=orthogonal", "penalty.orthogonal_k=-1"], "penalty.orthogonal_k=-1: must be a number >= 0"),
    ],
)
def test_wrong_values_end_with_a_line(overrides, message):
    with pytest.raises(UserError, match=message):
        check(compose(overrides))
