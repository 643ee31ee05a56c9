"""Residual networks for images of 32 x 32 pixels and smaller (He et al. 2016, in the form of wang2019)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import relu

Norm = Callable[[int], nn.Module]


class ResNet(nn.Module):
    """3 x 3 stem of stride 1, four stages of basic blocks, average pooling, linear classifier; no max-pooling.

    Args:
        blocks: basic blocks in each of the four stages; stages after the first halve the size and double the channels.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it after the stem and batch norm everywhere else (wang2019), "all" puts it everywhere.
        width: channels of the first stage.
        stem_channels: channels of the stem.

    Convolutions start Kaiming normal (fan out). Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.
    """

    def __init__(
        self,
        blocks: Sequence[int],
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
        self.stem = nn.Conv2d(in_channels, stem_channels, 3, padding=1, bias=False)
        self.stem_norm = norm(stem_channels)
        stages, channels = [], stem_channels
        for index, depth in enumerate(blocks):
            stage = []
            for block in range(depth):
                stride = 2 if index > 0 and block == 0 else 1
                stage.append(BasicBlock(channels, width * 2**index, stride, inner_norm))
                channels = width * 2**index
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.stem_norm(self.stem(x)))
        return self.classifier(self.stages(x).mean((-2, -1)))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.shortcut(x))


resnet18 = partial(ResNet, (2, 2, 2, 2))
resnet34 = partial(ResNet, (3, 4, 6, 3))
