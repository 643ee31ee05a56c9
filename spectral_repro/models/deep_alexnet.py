"""AlexNet for 32 x 32 pixels with many convolutions at one resolution (daneshmand2021, Figure 7)."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from spectral_repro.bounds import Count
from spectral_repro.layers.pooling import Pooling
from spectral_repro.linalg.checks import check_choice, check_count
from spectral_repro.models.blocks import ImageClassifier, Norm

convolution = partial(nn.Conv2d, kernel_size=3, padding=1)


class QuadrantMaxPooling(nn.Module):
    """The positive parts of the largest values in each quadrant of the image: (N, C, H, W) to (N, 4 C)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.out_features = 4 * in_channels

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_max_pool2d(x, 2).relu().flatten(1)


class DeepAlexNet(ImageClassifier):
    """Five convolutions of 3 x 3 with ``num_layers`` more among them, pooling, a classifier with two hidden layers and dropout.

    32 x 32 pixels become 4 x 4 positions of ``width``, 3, 3, 4 and 4 times ``width`` channels: the first convolution has
    stride 2, and the first two are followed by max-pooling. ReLU follows each of them but the fourth. Hidden layers have 64
    ``width`` units. All as published, at width 64.

    Args:
        num_layers: extra convolutions with ReLU.
        level: 2 puts them after the third convolution, without biases; 3 after the fifth.
        norm: makes the layer under study from a number of channels.
        extra_norm: puts it after the ReLU of every extra convolution, the only place with a norm.
        pooling: makes the pooling of the last features from their number of channels.
        width: channels of the first convolution.

    Initial weights are torch's defaults. Input (N, in_channels, H, W), H and W >= 7, output logits (N, num_classes).

    Raises:
        ValueError: for another ``level``, and for fewer than 0 layers.

    Example:
        >>> DeepAlexNet(num_classes=10, num_layers=5, width=8)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        num_layers: Annotated[int, Ge(0)] = 0,
        level: Literal[2, 3] = 3,
        norm: Norm = nn.BatchNorm2d,
        extra_norm: bool = False,
        pooling: Callable[[int], Pooling | QuadrantMaxPooling] = QuadrantMaxPooling,
        width: Count = 64,
    ):
        super().__init__()
        check_count("num_layers", num_layers, least=0)
        check_choice("level", level, 2, 3)
        middle, last, hidden = 3 * width, 4 * width, 64 * width

        def extra(channels: int, bias: bool) -> list[nn.Module]:
            layer = [convolution(channels, channels, bias=bias), nn.ReLU(inplace=True)]
            return [*layer, norm(channels)] if extra_norm else layer

        self.features = nn.Sequential(
            convolution(in_channels, width, stride=2), nn.MaxPool2d(2), nn.ReLU(inplace=True),
            convolution(width, middle), nn.MaxPool2d(2), nn.ReLU(inplace=True),
            convolution(middle, middle), nn.ReLU(inplace=True),
            *(layer for _ in range(num_layers if level == 2 else 0) for layer in extra(middle, bias=False)),
            convolution(middle, last),
            convolution(last, last), nn.ReLU(inplace=True),
            *(layer for _ in range(num_layers if level == 3 else 0) for layer in extra(last, bias=True)),
        )  # fmt: skip
        self.pooling = pooling(last)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(self.pooling.out_features, hidden), nn.ReLU(inplace=True),
            nn.Dropout(0.5), nn.Linear(hidden, hidden), nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
