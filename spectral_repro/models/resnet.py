"""Residual networks (He et al. 2016, Xie et al. 2017) for small images, as in wang2019, and large ones, as in song2021."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import relu

from spectral_repro.bounds import Count
from spectral_repro.layers.pooling import AveragePooling, Pooling
from spectral_repro.models.blocks import ImageClassifier, Norm, Placement, convolution, initialise, norms_by_place, subsampled


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
    """A 1 x 1 convolution with norm, of every ``stride``-th pixel."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm):
        super().__init__(convolution(in_channels, out_channels, 1), norm(out_channels))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(subsampled(x, self.stride))


def shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module:
    """A projection where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return Projection(in_channels, out_channels, stride, norm)


class ResNet(ImageClassifier):
    """Stem, four stages of blocks, pooling, linear classifier.

    Args:
        block: makes a block from its input channels, its channels, its stride and its norm layers.
        depths: blocks in each of the four stages; stages after the first halve the size and double the channels.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it after the stem and batch norm everywhere else (wang2019), "all" puts it everywhere.
        pooling: makes the pooling of the last features from their number of channels.
        width: ``channels`` of the blocks in the first stage.
        stem_channels: channels of the stem.
        large: a stem of 7 x 7 with stride 2 and max-pooling, for 224 pixels; else 3 x 3 with stride 1, for 32 and fewer.
        last_stride: stride of the fourth stage; 1 leaves covariance pooling four times the positions.

    Convolutions are initialised Kaiming normal (fan out). Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.

    Example:
        >>> resnet18(num_classes=10, width=8, norm=ZCAWhitening, pooling=CovariancePooling)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        block: Callable[[int, int, int, Norm], Block],
        depths: Sequence[int],
        num_classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Placement = "stem",
        pooling: Callable[[int], Pooling] = AveragePooling,
        width: Count = 64,
        stem_channels: Count = 64,
        large: bool = False,
        last_stride: int = 2,
    ):
        super().__init__()
        stem_norm, inner_norm = norms_by_place(norm, norm_placement)
        self.stem = convolution(in_channels, stem_channels, 7, 2) if large else convolution(in_channels, stem_channels, 3)
        self.stem_norm = stem_norm(stem_channels)
        self.stem_pooling = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages, channels = [], stem_channels
        for index, depth in enumerate(depths):
            stage = []
            for position in range(depth):
                stride = (1, 2, 2, last_stride)[index] if position == 0 else 1
                stage.append(block(channels, width * 2**index, stride, inner_norm))
                channels = stage[-1].out_channels
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.add_classifier(channels, pooling, num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        return self.stages(self.stem_pooling(relu(self.stem_norm(self.stem(x)))))


resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
resnext50_32x4d = partial(ResNet, partial(Bottleneck, widening=2, cardinality=32), (3, 4, 6, 3))
resnext101_32x8d = partial(ResNet, partial(Bottleneck, widening=4, cardinality=32), (3, 4, 23, 3))
resnet50_large = partial(resnet50, large=True, last_stride=1)
resnet101_large = partial(resnet101, large=True, last_stride=1)
