"""Gaps and effective ranks of spectra."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import identity
from spectral_repro.data import digits
from spectral_repro.layers import PCADenoising, ZCAWhitening
from spectral_repro.linalg.backward import NewtonSchulz
from spectral_repro.training.build import build_batches, build_model
from spectral_repro.training.spectra import covariance_layers, effective_rank, neighbour_gaps, output_gap, smallest_gap


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_eigenvalues(rank: int):
    eigenvalues = torch.tensor([2.5] * rank + [0.0] * (8 - rank))
    assert effective_rank(eigenvalues).item() == pytest.approx(rank)


def test_neighbour_gaps_leave_out_pairs_without_a_direction():
    gaps = neighbour_gaps(torch.tensor([[4.0, 3.0, 3.0, 0.0, 0.0]]))
    assert gaps.tolist() == [[0.25, 0.0, 1.0, torch.inf]]


def test_smallest_gap_is_that_of_all_layers_and_groups():
    network = nn.Sequential(ZCAWhitening(4, group_size=2), nn.BatchNorm2d(4), PCADenoising(4, components=2))
    layers = covariance_layers(network)
    assert layers.keys() == {"0", "2"}
    layers["0"].eigenvalues.copy_(torch.tensor([[4.0, 2.0], [5.0, 4.0]]))
    layers["2"].eigenvalues.copy_(torch.tensor([[10.0, 9.0, 4.0, 1.0]]))
    assert smallest_gap(layers).item() == pytest.approx(0.1)


def test_single_channels_have_no_gap():
    assert smallest_gap(covariance_layers(ZCAWhitening(4, group_size=1))).item() == torch.inf


def test_eigenvalues_that_a_method_does_not_find_have_an_unknown_gap():
    unknown = torch.full((1, 3), torch.nan)
    assert neighbour_gaps(unknown).isnan().all()
    layer = ZCAWhitening(3, group_size=3, backward=NewtonSchulz(forward="newton_schulz"))
    layer(torch.randn(8, 3))
    assert smallest_gap(covariance_layers(layer)).isnan()


MLP = ("model=mlp", "norm=null", "init=xavier", "model.depth=3", "optimizer.lr=0.01", "logger=none")


def test_output_gap_of_every_epoch_does_not_change_the_training(train):
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


def test_the_output_gap_does_not_change_the_identity():
    assert identity(compose(["output_gap=singular_values", "output_gap.batches=3"])) == identity(compose([]))
