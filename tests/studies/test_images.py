"""Random image networks against torch's own layers."""

import math
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from spectral_repro.linalg.orthogonality import orthogonality_gap
from spectral_repro.studies.images import ImageDepth


def images() -> Tensor:
    """Three batches of five images with much in common."""
    return torch.rand(3, 5, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + torch.linspace(0, 1, 8)


def study(**options) -> ImageDepth:
    return ImageDepth(**{"width": 7, "layers": 4, "batches": 3, "batch_norm": True, "convolutional": True} | options)


def reference(hidden: Tensor, weight: Tensor, batch_norm: bool, convolutional: bool) -> Tensor:
    """The layer by torch's modules, on one batch."""
    width, channels = weight.shape[:2]
    if convolutional:
        linear, norm = nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect", bias=False), nn.BatchNorm2d(width)
    else:
        hidden, weight = hidden.flatten(1), weight.flatten(1)
        linear, norm = nn.Linear(channels, width, bias=False), nn.BatchNorm1d(width)
    linear.weight = nn.Parameter(weight)
    return (norm if batch_norm else nn.Identity())(linear(hidden.relu()))


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("convolutional", [True, False])
def test_layer_is_that_of_torch_batch_by_batch(batch_norm: bool, convolutional: bool):
    generator = torch.Generator().manual_seed(0)
    network = study(batch_norm=batch_norm, convolutional=convolutional)
    hidden = next(network.representations(generator, images()))
    weight = torch.randn(7, hidden.shape[2], *(3, 3) if convolutional else (1, 1), generator=generator)
    found = network.layer(hidden, weight)
    expected = torch.stack([reference(batch, weight, batch_norm, convolutional) for batch in hidden])
    torch.testing.assert_close(found.flatten(2), expected.flatten(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("convolutional", [True, False])
def test_rows_hold_the_gap_of_each_batch(convolutional: bool):
    network = study(convolutional=convolutional)
    table = network(torch.Generator().manual_seed(0), images())
    hidden = islice(network.representations(torch.Generator().manual_seed(0), images()), 4)
    for layer, (row, h) in enumerate(zip(table, hidden, strict=True), 1):
        gaps = torch.stack([orthogonality_gap(batch.flatten(1).T) for batch in h])
        assert row["layer"] == layer
        assert row["orthogonality_gap"] == pytest.approx(gaps.mean().item(), rel=1e-5)
        assert row["orthogonality_gap_std"] == pytest.approx(gaps.std().item(), rel=1e-3)
        assert row["log_orthogonality_gap"] == pytest.approx(gaps.log().mean().item(), rel=1e-4)


@pytest.mark.parametrize("convolutional", [True, False])
def test_relu_keeps_its_variance_in_expectation(convolutional: bool):
    """Without batch norm, between layers of one width; the gain of linear layers would halve it."""
    network, generator, ratios = study(width=100, batch_norm=False, convolutional=convolutional), torch.Generator(), []
    for seed in range(10):
        _, first, second = islice(network.representations(generator.manual_seed(seed), images()), 3)
        ratios.append((second.square().mean() / first.square().mean()).item())
    assert sum(ratios) / 10 == pytest.approx(1, abs=0.2)


def test_batch_norm_keeps_a_gap_that_depth_would_open():
    normed, plain = (
        study(width=100, layers=30, batch_norm=on)(torch.Generator().manual_seed(0), images()) for on in (True, False)
    )
    assert normed[-1]["orthogonality_gap"] < 0.4 < 0.85 < plain[-1]["orthogonality_gap"] < math.sqrt(4 / 5)
