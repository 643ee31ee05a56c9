"""VGG with batch norm (Simonyan and Zisserman 2015), a pooling and a linear classifier behind the convolutions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from spectral_repro.layers.pooling import AveragePooling, Pooling
from spectral_repro.models.blocks import Norm, convolution, initialise


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions with norm and ReLU, max-pooling between them.

    Args:
        depths: convolutions in each of the five stages, of 1, 2, 4, 8 and 8 times ``width`` channels.
        norm: makes the layer under study from a number of channels.
        norm_placement: "stem" puts it after the first convolution and batch norm behind the others, "all" puts it everywhere.
        pooling: makes the pooling of the last features from their number of channels.
        width: channels of the first stage.

    Convolutions start Kaiming normal (fan out). Input (N, in_channels, H, W), H and W >= 16, output logits (N, num_classes).

    Raises:
        ValueError: for another ``norm_placement``.
    """

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
        norm_placement: Literal["stem", "all"] = "stem",
        pooling: Callable[[int], Pooling] = AveragePooling,
        width: int = 64,
    ):
        super().__init__()
        if norm_placement not in ("stem", "all"):
            raise ValueError(f"norm_placement={norm_placement} must be stem or all")
        layers, channels, factory = [], in_channels, norm
        for stage, depth in enumerate(depths):
            layers += [nn.MaxPool2d(2)] if stage else []
            for _ in range(depth):
                wider = width * 2 ** min(stage, 3)
                layers += [convolution(channels, wider, 3), factory(wider), nn.ReLU(inplace=True)]
                channels, factory = wider, norm if norm_placement == "all" else nn.BatchNorm2d
        self.features = nn.Sequential(*layers)
        self.pooling = pooling(channels)
        self.classifier = nn.Linear(self.pooling.out_features, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pooling(self.features(x)))


vgg16 = partial(VGG, (2, 2, 3, 3, 3))
vgg19 = partial(VGG, (2, 2, 4, 4, 4))
