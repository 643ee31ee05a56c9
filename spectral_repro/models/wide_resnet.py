"""Wide residual networks for 32 x 32 pixels (Zagoruyko and Komodakis 2016), as in cho2017 and senderovich2022."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad, relu

from spectral_repro.bounds import Count, Positive
from spectral_repro.layers.pooling import AveragePooling, Pooling
from spectral_repro.linalg.checks import check_choice
from spectral_repro.models.blocks import ImageClassifier, Norm, Placement, convolution, initialise, norms_by_place, subsampled


class WideBlock(nn.Module):
    """conv2(dropout(relu(norm2(conv1(a))))) + shortcut, a = relu(norm1(x)): norm and ReLU stand before the convolutions.

    Where the shape changes, the shortcut is a strided 1 x 1 convolution of a ("conv", cho2017), or the average of x over
    squares of ``stride`` pixels, padded with channels of zeros on both sides, or cropped on both sides if it has too many
    ("pool", senderovich2022); elsewhere it is x.

    (N, in_channels, H, W) to (N, channels, H / stride, W / stride), rounded up.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        norms: tuple[Norm, Norm],
        dropout: float = 0.0,
        shortcut: Literal["conv", "pool"] = "conv",
    ):
        super().__init__()
        self.stride, self.dropout = stride, nn.Dropout(dropout)
        self.missing = channels - in_channels
        self.norm1, self.norm2 = norms[0](in_channels), norms[1](channels)
        self.conv1 = convolution(in_channels, channels, 3, stride)
        self.conv2 = convolution(channels, channels, 3)
        changes = stride > 1 or channels != in_channels
        self.shortcut = convolution(in_channels, channels, 1) if changes and shortcut == "conv" else None

    def forward(self, x: Tensor) -> Tensor:
        a = relu(self.norm1(x))
        y = relu(self.norm2(self.conv1(a)))
        y = self.conv2(self.dropout(y))
        return y + (self._pooled(x) if self.shortcut is None else self.shortcut(subsampled(a, self.stride)))

    def _pooled(self, x: Tensor) -> Tensor:
        x = avg_pool2d(x, self.stride, ceil_mode=True) if self.stride > 1 else x
        after = self.missing // 2
        return pad(x, (0, 0, 0, 0, self.missing - after, after)) if self.missing else x


class WideResNet(ImageClassifier):
    """A 3 x 3 stem, three stages of `WideBlock`, norm, ReLU, pooling, linear classifier.

    Args:
        depth: 6 n + 4 for n blocks in each stage; stages after the first halve the size and double the channels.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it before the first block and batch norm everywhere else, "all" puts it everywhere.
        pooling: makes the pooling of the last features from their number of channels.
        width: channels of the first stage, 16 k in WRN-depth-k.
        stem_channels: channels of the stem.
        dropout: probability of dropout between the two convolutions of a block.
        shortcut: of blocks that change the shape, "conv" or "pool"; see `WideBlock`.
        gain: None initialises convolutions Kaiming normal (fan out); a number initialises all weights normal with standard
            deviation gain / sqrt(fan in), 2 in cho2017's code.

    Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement`` or ``shortcut``, and for a ``dropout`` outside [0, 1).

    Example:
        >>> wrn16_4(num_classes=10, norm=ZCAWhitening)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Placement = "stem",
        pooling: Callable[[int], Pooling] = AveragePooling,
        width: Count = 160,
        stem_channels: Count = 16,
        dropout: float = 0.0,
        shortcut: Literal["conv", "pool"] = "conv",
        gain: Positive | None = None,
    ):
        super().__init__()
        check_choice("shortcut", shortcut, "conv", "pool")
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth}: must be 6 n + 4, n >= 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be in [0, 1)")
        stem_norm, inner_norm = norms_by_place(norm, norm_placement)
        self.stem = convolution(in_channels, stem_channels, 3)
        blocks: list[nn.Module] = []
        channels = stem_channels
        for stage in range(3):
            for position in range((depth - 4) // 6):
                stride = 2 if stage and position == 0 else 1
                first = inner_norm if blocks else stem_norm
                blocks.append(WideBlock(channels, width * 2**stage, stride, (first, inner_norm), dropout, shortcut))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.norm = inner_norm(channels)
        self.add_classifier(channels, pooling, num_classes)
        initialise(self, gain)

    def features(self, x: Tensor) -> Tensor:
        return relu(self.norm(self.blocks(self.stem(x))))


wrn16_4 = partial(WideResNet, 16, width=64)
wrn16_10 = partial(WideResNet, 16, width=160)
wrn22_8 = partial(WideResNet, 22, width=128)
wrn28_10 = partial(WideResNet, 28, width=160)
wrn40_10 = partial(WideResNet, 40, width=160)
