"""The small, fast network of airbench (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from spectral_repro.bounds import Count, Positive, Share
from spectral_repro.layers.pooling import MaxPooling, Pooling
from spectral_repro.models.blocks import ImageClassifier, Norm, Placement, convolution, norms_by_place


class AirBench(ImageClassifier):
    """A frozen 2 x 2 convolution with GELU, three blocks, pooling, and a linear layer without bias:

        logits = logit_scale * classifier(pooling(block3(block2(block1(gelu(patches(x))))))).

    The frozen convolution has 8 ``in_channels`` kernels, meant for whitened patches of the training images and their negatives
    (`patches`, init=patches), and a trained bias. A block is a 3 x 3 convolution, max-pooling by 2, norm and GELU, and then
    ``depth`` - 1 times a 3 x 3 convolution, norm and GELU. Norms have a trained bias; their weight is 1 and frozen. 32 x 32
    pixels become 31, 15, 7 and 3. Initial weights are torch's defaults.

    Args:
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it at the first norm and batch norm at the others, "all" puts it everywhere.
        pooling: makes the pooling of the last features from their number of channels.
        width: channels of the first block.
        widening: channels of each block, as multiples of ``width``.
        depth: convolutions of a block.
        last_stride: of the max-pooling of the last block; 1 leaves it out, and gives covariance pooling 7 x 7 positions
            instead of 3 x 3.
        norm_momentum: of batch norms where the layer under study is not used.
        logit_scale: factor of the logits.

    Input (N, in_channels, H, W), H and W >= 17, output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.

    Example:
        >>> AirBench(width=32, widening=(1, 2, 4))(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Placement = "all",
        pooling: Callable[[int], Pooling] = MaxPooling,
        width: Count = 64,
        widening: Sequence[Count] = (1, 2, 2),
        depth: Count = 2,
        last_stride: Literal[1, 2] = 2,
        norm_momentum: Share = 0.4,
        logit_scale: Positive = 1 / 9,
    ):
        super().__init__()
        batch_norm = partial(nn.BatchNorm2d, momentum=norm_momentum)
        norm, inner_norm = map(_without_scale, norms_by_place(norm, norm_placement, batch_norm))
        channels = 8 * in_channels
        self.patches = nn.Conv2d(in_channels, channels, 2)
        self.patches.weight.requires_grad_(False)
        self.activation = nn.GELU()
        blocks = []
        for index, factor in enumerate(widening):
            stride = last_stride if index == len(widening) - 1 else 2
            layers: list[nn.Module] = []
            for position in range(depth):
                layers += [convolution(channels, width * factor, 3), *[nn.MaxPool2d(stride)] * (position == 0 and stride > 1)]
                layers += [norm(width * factor), nn.GELU()]
                channels, norm = width * factor, inner_norm
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.Sequential(*blocks)
        self.add_classifier(channels, pooling, num_classes, bias=False)
        self.logit_scale = logit_scale

    def features(self, x: Tensor) -> Tensor:
        return self.blocks(self.activation(self.patches(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.logit_scale * super().forward(x)


def _without_scale(norm: Norm) -> Norm:
    """Makes norms whose weight, if they have one, is 1 and frozen."""

    def make(channels: int) -> nn.Module:
        layer = norm(channels)
        if (weight := getattr(layer, "weight", None)) is not None:
            nn.init.ones_(weight).requires_grad_(False)
        return layer

    return make
