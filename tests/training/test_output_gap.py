"""The gap of a network's outputs while it learns, as a run measures it."""

import math

import pandas as pd
import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import identity
from spectral_repro.data import digits
from spectral_repro.training.build import build_batches, build_model
from spectral_repro.training.output_gap import output_gap

MLP = ("model=mlp", "norm=null", "init=xavier", "model.depth=3", "optimizer.lr=0.01", "logger=none")


def test_every_epoch_has_its_gap_and_the_training_does_not_feel_it(train):
    """The last one is that of the weights that the run leaves, batch by batch of the first epoch."""
    plain = pd.read_csv(train(*MLP) / "metrics.csv")
    folder = train(*MLP, "output_gap=singular_values", "force=true")
    measured, config = pd.read_csv(folder / "metrics.csv"), compose([*MLP, "scale=smoke"])
    assert measured["train_loss"].tolist() == plain["train_loss"].tolist()
    assert "output_gap" not in plain and measured["output_gap"].between(0, math.sqrt(2 - 2 / math.sqrt(10))).all()

    network = build_model(config)
    network.load_state_dict(torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"])
    batches = list(
        build_batches(config, digits(train_images=64, test_images=32).train, torch.device("cpu"), train=True).epoch(0)
    )
    gaps = []
    for images, _ in batches:
        values = torch.linalg.svdvals(network(images).detach().double())
        gaps.append((values / values.norm() - 1 / math.sqrt(10)).norm().item())
    assert len(gaps) == 4 and len(set(gaps)) == 4
    assert measured["output_gap"].iloc[-1] == pytest.approx(sum(gaps) / 4, rel=1e-5)
    assert output_gap(network, batches[:2]) == pytest.approx(sum(gaps[:2]) / 2, rel=1e-5)

    few = pd.read_csv(train(*MLP, "output_gap=singular_values", "output_gap.batches=2", "force=true") / "metrics.csv")
    assert few["output_gap"].iloc[-1] == pytest.approx(sum(gaps[:2]) / 2, rel=1e-5)


def test_it_is_no_part_of_the_identity():
    assert identity(compose(["output_gap=singular_values", "output_gap.batches=3"])) == identity(compose([]))
