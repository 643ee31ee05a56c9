"""What a training writes down, in every precision."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spectral_repro.training.spectra import effective_rank


def test_tensorboard_scalars(train):
    events = EventAccumulator(str(train("norm=zca", "trainer.log_every=2")))
    events.Reload()
    scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert {"train/loss", "train/accuracy", "train/learning_rate", "train/images_per_second"} <= scalars.keys()
    assert {"test/loss", "test/accuracy"} <= scalars.keys()
    assert len(scalars["train/loss"]) == 4
    for group in range(4):
        largest, smallest, rank = (
            scalars[f"spectrum/stem_norm/group_{group}/{name}"] for name in ("largest", "smallest", "effective_rank")
        )
        assert len(largest) == 2
        assert largest[-1] > smallest[-1] > 0
        assert 1 <= rank[-1] <= 16


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_eigenvalues(rank: int):
    eigenvalues = torch.tensor([2.5] * rank + [0.0] * (8 - rank))
    assert effective_rank(eigenvalues).item() == pytest.approx(rank)


@pytest.mark.parametrize("options", [("precision=bfloat16",), ("precision=float16",), ("trainer.channels_last=false",)])
def test_every_precision_and_layout_trains(train, options: tuple[str, ...]):
    assert json.loads((train("norm=zca", *options) / "summary.json").read_text())["state"] == "finished"


def first_loss(run: Path) -> float:
    return json.loads((run / "summary.json").read_text())["final"]["train_loss"]


def test_layouts_agree(train):
    losses = [first_loss(train("norm=zca", f"trainer.channels_last={on}", "trainer.epochs=1")) for on in ("true", "false")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own insides
def test_compiled_training_agrees(train):
    losses = [first_loss(train("norm=zca", f"trainer.compile={on}", "trainer.epochs=1")) for on in ("true", "false")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
