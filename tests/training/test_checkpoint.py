"""What a checkpoint holds, and what one that cannot be used says."""

import pickle

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_model


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
def test_a_damaged_checkpoint_is_named(train, damage):
    folder = train()
    last, summary = folder / "checkpoints" / "last.pt", folder / "summary.json"
    last.write_bytes(damage(last.read_bytes()))
    summary.write_text(summary.read_text().replace("finished", "interrupted"))
    with pytest.raises(UserError, match=r"last\.pt: damaged, or not a checkpoint of this run; force=true"):
        train()
    train("force=true")
    assert '"finished"' in summary.read_text()
