"""VGG with batch norm (Simonyan and Zisserman 2015) for large images, as in song2021, and for small ones, as in cho2017."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import nn

from spectral_repro.bounds import Count
from spectral_repro.layers.pooling import AveragePooling, Pooling
from spectral_repro.models.blocks import ImageClassifier, Norm, Placement, convolution, initialise, norms_by_place


class VGG(ImageClassifier):
    """Five stages of 3 x 3 convolutions with norm and ReLU, max-pooling between them, pooling, linear classifier.

    For small images (32 x 32) max-pooling follows the fifth stage too, and two hidden linear layers with ReLU, as wide as that
    stage, precede the classifier: 512 - 512 - classes. With batch norm after the hidden layers this is the network of cho2017's
    code, except that its batch norms shift and do not scale; without, it is that of senderovich2022.

    Args:
        depths: convolutions in each of the five stages, of 1, 2, 4, 8 and 8 times ``width`` channels.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it after the first convolution and batch norm after the others, "all" puts it everywhere.
        pooling: makes the pooling of the last features from their number of channels.
        width: channels of the first stage.
        small: for small images.
        hidden_norm: batch norm after the hidden layers of a ``small`` network.

    Convolutions are initialised Kaiming normal (fan out). Input (N, in_channels, H, W), if not ``small`` H and W >= 16, output
    logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.

    Example:
        >>> vgg13_small(num_classes=10, width=8)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Placement = "stem",
        pooling: Callable[[int], Pooling] = AveragePooling,
        width: Count = 64,
        small: bool = False,
        hidden_norm: bool = True,
    ):
        super().__init__()
        factory, inner_norm = norms_by_place(norm, norm_placement)
        layers: list[nn.Module] = []
        channels = in_channels
        for stage, depth in enumerate(depths):
            layers += [nn.MaxPool2d(2, ceil_mode=small)] if stage else []
            for _ in range(depth):
                wider = width * 2 ** min(stage, 3)
                layers += [convolution(channels, wider, 3), factory(wider), nn.ReLU()]
                channels, factory = wider, inner_norm
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if small else []
        self.features = nn.Sequential(*layers)
        self.pooling = pooling(channels)
        sizes = [self.pooling.out_features, *[channels] * (2 * small)]
        hidden = [layer for shape in pairwise(sizes) for layer in _hidden(*shape, hidden_norm)]
        classifier = nn.Linear(sizes[-1], num_classes)
        self.classifier = nn.Sequential(*hidden, classifier) if small else classifier
        initialise(self)


def _hidden(in_features: int, out_features: int, norm: bool) -> list[nn.Module]:
    linear = nn.Linear(in_features, out_features, bias=not norm)
    return [linear, *[nn.BatchNorm1d(out_features)] * norm, nn.ReLU(inplace=True)]


vgg16 = partial(VGG, (2, 2, 3, 3, 3))
vgg19 = partial(VGG, (2, 2, 4, 4, 4))
vgg13_small = partial(VGG, (2, 2, 2, 2, 2), small=True)
vgg19_small = partial(VGG, (2, 2, 4, 4, 4), small=True)
