"""Content of checkpoints, and errors for files that cannot be used."""

import pickle

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_model
from spectral_repro.training.checkpoint import read_checkpoint


def test_weights_are_loadable_alone(train):
    checkpoint = torch.load(train("norm=zca_pi") / "checkpoints" / "best.pt", weights_only=True)
    model = build_model(compose(["norm=zca_pi", "scale=smoke"]))
    model.load_state_dict(checkpoint["model"])
    assert checkpoint["config"]["norm"]["truncation"] == "reference"


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: pickle.dumps({"model": print}, protocol=2)],
    ids=["truncated", "empty", "with code in it"],
)
def test_checkpoints_that_are_all_damaged_are_named(train, damage, capsys):
    folder = train()
    summary = folder / "summary.json"
    for name in ("last.pt", "previous.pt"):
        path = folder / "checkpoints" / name
        path.write_bytes(damage(path.read_bytes()))
    summary.write_text(summary.read_text().replace("finished", "interrupted"))
    with pytest.raises(
        UserError,
        match=r"previous\.pt: (damaged|holds the type print), .*; force=true starts the run again$",
    ):
        train()
    assert "last.pt: " in (errors := capsys.readouterr().err) and "; trying the previous one" in errors
    train("force=true")
    assert '"finished"' in summary.read_text()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"step": -5}, "step=-5: must be a whole number between 0 and 4"),
        ({"step": 1000}, "step=1000: must be a whole number between 0 and 4"),
        ({"step": "a"}, "step=a: must be a whole number between 0 and 4"),
        ({"rows": [1]}, "rows: must be a list with the values of each epoch by name"),
    ],
    ids=str,
)
def test_a_checkpoint_of_no_such_training_is_named(train, change, fault):
    options = ("trainer.epochs=1", "logger=none", "model=alexnet_small")
    folder = train(*options)
    (folder / "summary.json").unlink()
    path = folder / "checkpoints" / "last.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(UserError, match=rf"last\.pt: not a checkpoint of this run \(ValueError: {fault}\); force=true starts"):
        train(*options)


def test_every_changed_bit_is_detected(tmp_path):
    path, generator = tmp_path / "last.pt", torch.Generator().manual_seed(0)
    whole = {"model": {"weight": torch.rand(300, generator=generator)}, "rows": [{"epoch": 1, "test_loss": 0.5}]}
    torch.save(whole, path)
    content, refused = path.read_bytes(), 0
    for bit in torch.randint(8 * len(content), (200,), generator=generator).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except UserError:
            refused += 1
        else:
            assert found["rows"] == whole["rows"] and torch.equal(found["model"]["weight"], whole["model"]["weight"])
    assert refused > 100
