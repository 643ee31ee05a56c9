"""A small network with every kind of layer that a constraint knows."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spectral_repro.layers import TTConv2d

IMAGE = (3, 8, 6)


@pytest.fixture
def network() -> nn.Sequential:
    """Convolutions with stride, groups and dilation, a TT layer, batch norm, a linear layer; all weights large."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding="same", dilation=2),
        TTConv2d(8, 10, 3, padding=1, rank=4),
        nn.Flatten(),
        nn.Linear(10 * 4 * 3, 5),
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(5)
    return layers


@pytest.fixture
def make(network: nn.Module) -> Callable:
    """A constraint of the network."""

    def of(kind: type, **options: object) -> object:
        return kind(network, IMAGE, options.pop("orthonormal_frames", False), **options)

    return of
