"""Outputs of MLPs before training, by initialisation."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from spectral_repro.bounds import Count
from spectral_repro.linalg.orthogonality import singular_value_gap
from spectral_repro.models import MLP
from spectral_repro.models.init import Initialisation
from spectral_repro.studies.summary import rows


@dataclass(frozen=True)
class InitialGap:
    """Singular value gap of the 10 outputs of MLPs that have only been initialised, by depth (daneshmand2021, Figures 3 and 4).

    The first layers of one network, each with ReLU, and its classifier serve as the network of every smaller depth: weights do
    not depend on later layers, and the classifier is equally random for all. In float32, Gram matrices in float64.

    Attributes:
        width: units of every layer but the classifier.
        depth: linear layers of the deepest network, including the classifier; at least 2.
        batches: of training images, one value of each mean and standard deviation; the initialisation gets the same images.
        init: sets the weights of a network, those of a layer independently of later layers.

    Example:
        >>> from spectral_repro.models.init import xavier
        >>> study = InitialGap(width=16, depth=4, batches=2, init=xavier)
        >>> rows = study(torch.Generator().manual_seed(0), torch.randn(2, 8, 1, 8, 8))
        >>> [row["depth"] for row in rows]
        [2, 3, 4]
    """

    width: Count
    depth: Annotated[int, Ge(2)]
    batches: Count
    init: Initialisation

    @torch.no_grad()
    def __call__(self, generator: torch.Generator, images: Tensor) -> list[dict[str, float]]:
        """The rows for images (batches, n, C, S, S); weights come from the generator's seed."""
        flat = images.flatten(0, 1)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(generator.initial_seed())
            network = MLP(10, images.shape[2], images.shape[3], depth=self.depth, width=self.width).to(images.device)
            self.init(network, lambda number: flat[:number])
        hidden, gaps = flat, []
        for layer in network.features:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                outputs = network.classifier(hidden).double().unflatten(0, images.shape[:2])
                gaps.append(singular_value_gap(outputs.mT @ outputs))
        return rows("depth", range(2, self.depth + 1), {"initial_output_gap": torch.stack(gaps)})
