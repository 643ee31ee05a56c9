"""Building blocks of the networks: convolutions without bias, choice of norms, pooling and classifier."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from spectral_repro.layers.pooling import Pooling
from spectral_repro.linalg.checks import check_choice

Norm = Callable[[int], nn.Module]
Placement = Literal["stem", "all"]


class ImageClassifier(nn.Module):
    """classifier(pooling(features(x))) of images x (N, in_channels, H, W): logits (N, num_classes).

    A subclass defines ``features``, a module or a method, and adds the other two with `add_classifier`.

    Example:
        >>> isinstance(resnet18(width=8), ImageClassifier)
        True
    """

    features: Callable[[Tensor], Tensor]
    pooling: nn.Module
    classifier: nn.Module

    def add_classifier(self, channels: int, pooling: Callable[[int], Pooling], num_classes: int, bias: bool = True) -> None:
        """Adds a pooling of this number of channels, and a linear layer after it."""
        self.pooling = pooling(channels)
        self.classifier = nn.Linear(self.pooling.out_features, num_classes, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pooling(self.features(x)))


def norms_by_place(norm: Norm, placement: Placement, other: Norm = nn.BatchNorm2d) -> tuple[Norm, Norm]:
    """The norm of the stem, and the norm elsewhere: ``other`` unless the placement is "all".

    Raises:
        ValueError: for another placement.
    """
    check_choice("norm_placement", placement, "stem", "all")
    return norm, norm if placement == "all" else other


def convolution(in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A square convolution without bias, padded by half its size."""
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, groups=groups, bias=False)


def subsampled(x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th pixel of x (N, C, H, W): the input of a 1 x 1 convolution with this stride.

    Such a convolution follows with stride 1: the gradient of a strided 1 x 1 convolution of a few channels corrupts memory in
    torch 2.14 on CPUs (float32, channels_last, 64 x 64 pixels).
    """
    return x[:, :, ::stride, ::stride]


def initialise(network: nn.Module, gain: float | None = None) -> None:
    """Draws convolutions Kaiming normal, fan out. With a ``gain``: draws convolutions and linear layers normal with standard
    deviation gain / sqrt(fan in), and sets biases to 0.
    """
    for module in network.modules():
        if gain is not None and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight.shape[1:].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
