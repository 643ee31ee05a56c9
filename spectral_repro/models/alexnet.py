"""AlexNet with batch norm and no dropout, for covariance pooling (song2021), and the same for small images."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from spectral_repro.bounds import Count
from spectral_repro.layers.pooling import AveragePooling, Pooling
from spectral_repro.models.blocks import ImageClassifier, Norm, Placement, initialise, norms_by_place

WIDENING = (1, 3, 6, 4, 4)  # channels of the five convolutions, over those of the first


class AlexNet(ImageClassifier):
    """Five convolutions, each with norm and ReLU, max-pooling after the first two, pooling, a linear classifier.

    The pooling replaces the last max-pooling and the two hidden linear layers of Krizhevsky et al. (2012): 224 x 224 pixels
    leave 13 x 13 positions of 4 ``width`` channels.

    Args:
        stem: kernel size, stride and padding of the first convolution.
        window: of the max-pooling, its stride 2.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it after the first convolution and batch norm after the others, "all" puts it everywhere.
        pooling: makes the pooling of the last features from their number of channels.
        width: channels of the first convolution.

    Convolutions are initialised Kaiming normal (fan out). Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.

    Example:
        >>> alexnet_small(num_classes=10, width=8)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        stem: Sequence[int],
        window: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Placement = "stem",
        pooling: Callable[[int], Pooling] = AveragePooling,
        width: Count = 64,
    ):
        super().__init__()
        stem_norm, inner_norm = norms_by_place(norm, norm_placement)
        layers: list[nn.Module] = []
        channels = in_channels
        for index, (widening, (size, stride, padding)) in enumerate(
            zip(WIDENING, (stem, (5, 1, 2), *[(3, 1, 1)] * 3), strict=True)
        ):
            layers += [nn.Conv2d(channels, widening * width, size, stride, padding, bias=False)]
            layers += [inner_norm(widening * width) if index else stem_norm(width), nn.ReLU()]
            layers += [nn.MaxPool2d(window, 2)] if index < 2 else []
            channels = widening * width
        self.features = nn.Sequential(*layers)
        self.add_classifier(channels, pooling, num_classes)
        initialise(self)


alexnet = partial(AlexNet, (11, 4, 2), 3)
alexnet_small = partial(AlexNet, (3, 1, 1), 2)
