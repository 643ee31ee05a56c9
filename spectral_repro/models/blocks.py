"""The blocks of residual networks (He et al. 2016, Xie et al. 2017)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import relu

Norm = Callable[[int], nn.Module]


class Block(nn.Module, ABC):
    """relu(residual(x) + shortcut(x)), (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride) rounded up."""

    out_channels: int
    shortcut: nn.Module

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.residual(x) + self.shortcut(x))


class BasicBlock(Block):
    """Two 3 x 3 convolutions."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm):
        super().__init__()
        self.out_channels = channels
        self.conv1 = convolution(in_channels, channels, 3, stride)
        self.norm1 = norm(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.norm2 = norm(channels)
        self.shortcut = shortcut(in_channels, channels, stride, norm)

    def residual(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(y))


class Bottleneck(Block):
    """1 x 1 to the inner channels, 3 x 3 with the stride, 1 x 1 to four times ``channels``.

    Args:
        widening: inner channels as a multiple of ``channels``.
        cardinality: groups of the 3 x 3 convolution. Where it does not divide the inner channels, as in a narrow network, the
            greatest common divisor of both takes its place: groups are of equal size, of one channel at least.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm, widening: int = 1, cardinality: int = 1):
        super().__init__()
        self.out_channels = 4 * channels
        inner = widening * channels
        self.conv1 = convolution(in_channels, inner, 1)
        self.norm1 = norm(inner)
        self.conv2 = convolution(inner, inner, 3, stride, groups=math.gcd(cardinality, inner))
        self.norm2 = norm(inner)
        self.conv3 = convolution(inner, self.out_channels, 1)
        self.norm3 = norm(self.out_channels)
        self.shortcut = shortcut(in_channels, self.out_channels, stride, norm)

    def residual(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        y = relu(self.norm2(self.conv2(y)))
        return self.norm3(self.conv3(y))


class Projection(nn.Sequential):
    """A 1 x 1 convolution with norm, of every ``stride``-th pixel.

    The pixels are taken first: the gradient of a strided 1 x 1 convolution of a few channels corrupts memory in torch 2.14 on
    CPUs (float32, channels_last, 64 x 64 pixels).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm):
        super().__init__(convolution(in_channels, out_channels, 1), norm(out_channels))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self.stride, :: self.stride])


def shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module:
    """A projection where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return Projection(in_channels, out_channels, stride, norm)


def convolution(in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, groups=groups, bias=False)


def initialise(network: nn.Module, gain: float | None = None) -> None:
    """Convolutions start Kaiming normal, fan out, or with a ``gain``: convolutions and linear layers start normal with standard
    deviation gain / sqrt(fan in), biases at 0.
    """
    for module in network.modules():
        if gain is not None and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight.shape[1:].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
