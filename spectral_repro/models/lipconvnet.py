"""LipConvnet (Singla and Feizi 2021), the network of senderovich2022's certificates."""

import math
from functools import partial

from torch import Tensor, nn

from spectral_repro.bounds import Count
from spectral_repro.layers.soc import MinMax


class LipConvnet(nn.Module):
    """Five groups of ``block_size`` convolutions with MinMax, and a 1 x 1 convolution as classifier.

    The last layer of a group doubles the channels and has stride 2 if the size is even; in the fifth group it is 1 x 1. It
    consists of plain convolutions: `convert` with `SOC` or `SOTT` makes it 1-Lipschitz.

    Args:
        block_size: layers of a group, 1, 4 and 6 in LipConvnet-5, -20 and -30.
        width: channels in the first group, even.
        image_size: H = W; 32 leaves one position, of 32 ``width`` channels.

    Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for an odd ``width``, because MinMax halves the channels.

    Example:
        >>> lipconvnet5(num_classes=10, width=4)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, block_size: int, num_classes: int = 10, in_channels: int = 3, width: Count = 32, image_size: int = 32):
        super().__init__()
        if width % 2:
            raise ValueError(f"width={width}: must be even, for MinMax halves the channels")
        layers, channels, size = [], in_channels, image_size
        for group in range(5):
            for last in [False] * (block_size - 1) + [True]:
                kernel_size, stride = 1 if last and group == 4 else 3, 2 if last and size % 2 == 0 else 1
                wider = width * 2 ** (group + last)
                layers += [nn.Conv2d(channels, wider, kernel_size, stride, padding=kernel_size // 2), MinMax()]
                channels, size = wider, size // stride
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(channels * size**2, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1)[:, :, None, None]).flatten(1)

    @property
    def lipschitz(self) -> float:
        """A bound of the Lipschitz constant in evaluation: the product of the bounds of the layers, which must all have one."""
        return math.prod(layer.lipschitz for layer in [*self.features[::2], self.classifier])


lipconvnet5 = partial(LipConvnet, 1)
lipconvnet20 = partial(LipConvnet, 4)
lipconvnet30 = partial(LipConvnet, 6)
