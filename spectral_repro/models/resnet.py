"""Residual networks (He et al. 2016, Xie et al. 2017) for small images, as in wang2019, and large ones, as in song2021."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import relu

from spectral_repro.layers.pooling import AveragePooling, Pooling
from spectral_repro.models.blocks import BasicBlock, Block, Bottleneck, Norm, convolution, initialise


class ResNet(nn.Module):
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

    Convolutions start Kaiming normal (fan out). Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.
    """

    def __init__(
        self,
        block: Callable[[int, int, int, Norm], Block],
        depths: Sequence[int],
        num_classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Literal["stem", "all"] = "stem",
        pooling: Callable[[int], Pooling] = AveragePooling,
        width: int = 64,
        stem_channels: int = 64,
        large: bool = False,
        last_stride: int = 2,
    ):
        super().__init__()
        if norm_placement not in ("stem", "all"):
            raise ValueError(f"norm_placement={norm_placement} must be stem or all")
        inner_norm = norm if norm_placement == "all" else nn.BatchNorm2d
        self.stem = convolution(in_channels, stem_channels, 7, 2) if large else convolution(in_channels, stem_channels, 3)
        self.stem_norm = norm(stem_channels)
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
        self.pooling = pooling(channels)
        self.classifier = nn.Linear(self.pooling.out_features, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_pooling(relu(self.stem_norm(self.stem(x))))
        return self.classifier(self.pooling(self.stages(x)))


resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
resnext50_32x4d = partial(ResNet, partial(Bottleneck, widening=2, cardinality=32), (3, 4, 6, 3))
resnext101_32x8d = partial(ResNet, partial(Bottleneck, widening=4, cardinality=32), (3, 4, 23, 3))
resnet50_large = partial(resnet50, large=True, last_stride=1)
resnet101_large = partial(resnet101, large=True, last_stride=1)
