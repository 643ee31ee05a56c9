"""Linear layers one after another (daneshmand2021, Figures 3 and 4)."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from spectral_repro.bounds import Count
from spectral_repro.linalg.checks import check_count
from spectral_repro.models.blocks import Norm


class MLP(nn.Module):
    """Linear layers without biases on images as vectors, ReLU between them.

    Args:
        image_size: H = W of the images.
        depth: linear layers, the classifier among them.
        norm: makes the layer under study, before every ReLU, from a number of units; None: there is none.
        width: units of every layer but the classifier; 800 as published.

    Initial weights are torch's defaults. Input (N, in_channels, H, W), output logits (N, num_classes).

    Raises:
        ValueError: for a depth below 2.

    Example:
        >>> MLP(num_classes=10, depth=3, width=64)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        depth: Annotated[int, Ge(2)] = 20,
        norm: Norm | None = None,
        width: Count = 800,
    ):
        super().__init__()
        check_count("depth", depth, least=2)
        layers: list[nn.Module] = [nn.Flatten()]
        units = in_channels * image_size**2
        for _ in range(depth - 1):
            layers.append(nn.Linear(units, width, bias=False))
            if norm:
                layers += [nn.Unflatten(1, (width, 1, 1)), norm(width), nn.Flatten()]
            layers.append(nn.ReLU())
            units = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(units, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
