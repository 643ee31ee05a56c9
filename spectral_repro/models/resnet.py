"""Residual networks for images of 32 x 32 pixels and smaller (He et al. 2016, Xie et al. 2017, in the form of wang2019)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import relu

from spectral_repro.models.blocks import BasicBlock, Block, Bottleneck, Norm, convolution


class ResNet(nn.Module):
    """3 x 3 stem of stride 1, four stages of blocks, average pooling, linear classifier; no max-pooling.

    Args:
        block: makes a block from its input channels, its channels, its stride and its norm layers.
        depths: blocks in each of the four stages; stages after the first halve the size and double the channels.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it after the stem and batch norm everywhere else (wang2019), "all" puts it everywhere.
        width: ``channels`` of the blocks in the first stage.
        stem_channels: channels of the stem.

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
        width: int = 64,
        stem_channels: int = 64,
    ):
        super().__init__()
        if norm_placement not in ("stem", "all"):
            raise ValueError(f"norm_placement={norm_placement} must be stem or all")
        inner_norm = norm if norm_placement == "all" else nn.BatchNorm2d
        self.stem = convolution(in_channels, stem_channels, 3)
        self.stem_norm = norm(stem_channels)
        stages, channels = [], stem_channels
        for index, depth in enumerate(depths):
            stage = []
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(block(channels, width * 2**index, stride, inner_norm))
                channels = stage[-1].out_channels
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.stem_norm(self.stem(x)))
        return self.classifier(self.stages(x).mean((-2, -1)))


resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
resnext50_32x4d = partial(ResNet, partial(Bottleneck, widening=2, cardinality=32), (3, 4, 6, 3))
resnext101_32x8d = partial(ResNet, partial(Bottleneck, widening=4, cardinality=32), (3, 4, 23, 3))
