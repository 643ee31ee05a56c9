"""Gaps and ranks of spectra, and where they are looked for."""

import pytest
import torch
from torch import nn

from spectral_repro.layers import PCADenoising, ZCAWhitening
from spectral_repro.linalg.backward import NewtonSchulz
from spectral_repro.training.spectra import covariance_layers, effective_rank, relative_gaps, smallest_gap


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_eigenvalues(rank: int):
    eigenvalues = torch.tensor([2.5] * rank + [0.0] * (8 - rank))
    assert effective_rank(eigenvalues).item() == pytest.approx(rank)


def test_relative_gaps_leave_out_pairs_without_a_direction():
    gaps = relative_gaps(torch.tensor([[4.0, 3.0, 3.0, 0.0, 0.0]]))
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
    assert relative_gaps(unknown).isnan().all()
    layer = ZCAWhitening(3, group_size=3, backward=NewtonSchulz(forward="newton_schulz"))
    layer(torch.randn(8, 3))
    assert smallest_gap(covariance_layers(layer)).isnan()
