"""The MLP against its formula, and what the normalisation sees."""

import pytest
import torch
from torch import nn

from spectral_repro.layers import ZCAWhitening
from spectral_repro.models import MLP


def images() -> torch.Tensor:
    return torch.rand(16, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear)]


def test_published_size():
    """Depth counts the classifier: 3072 inputs, 18 square layers, 10 outputs, no biases."""
    with torch.device("meta"):
        network = MLP()
    assert sum(p.numel() for p in network.parameters()) == 3072 * 800 + 18 * 800**2 + 800 * 10


def test_formula():
    network = MLP(7, image_size=6, depth=4, width=9).double()
    first, second, third, last = weights(network)
    hidden = images().flatten(1)
    for weight in (first, second, third):
        hidden = (hidden @ weight.T).clamp(min=0)
    torch.testing.assert_close(network(images()), hidden @ last.T)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda units: ZCAWhitening(units, group_size=4, shrinkage=0.0)])
def test_the_layer_under_study_stands_before_every_relu(norm):
    network = MLP(7, image_size=6, depth=3, norm=norm, width=8).double()
    inputs = []
    for layer in network.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_pre_hook(lambda layer, given: inputs.append(given[0].clone()))
    network(images())
    assert len(inputs) == 2
    for units in inputs:
        assert units.shape == (16, 8)
        torch.testing.assert_close(units.mean(0), torch.zeros(8, dtype=torch.float64))
        assert (units.var(0, correction=0) - 1).abs().max() < 0.1


def test_a_single_layer_is_no_mlp():
    with pytest.raises(ValueError, match="depth=1: must be a whole number >= 2"):
        MLP(depth=1)
