"""How the distance from the mean Gram matrix falls with the width."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from spectral_repro.linalg.orthogonality import normalised_gram
from spectral_repro.studies.gaussian import GaussianNetwork
from spectral_repro.studies.rows import rows, with_log


@dataclass(frozen=True)
class Width:
    """The mean over layers of || M_l - K ||_F, M_l = H_l^T H_l / ||H_l||_F^2, by width, and its slope in the log-log plane.

    K is I/n, which makes it the mean orthogonality gap (daneshmand2021, Figure 2b), or with ``reference_layers`` the mean of
    M_l over so many layers of a network of its own (Figure 6). The input is not among the layers. A row's slope is that of the
    least-squares line through log distance against log width, from the first width up to the row's; NaN in the first row.
    Every value is a mean over ``repeats`` independent networks, logarithms and slopes taken network by network; in float64.

    Args:
        network: makes the network of a width.
        widths: ascending.
        layers: to average over.
        repeats: independent networks of each width.
        reference_layers: None for K = I/n.
    """

    network: partial[GaussianNetwork]
    widths: Sequence[int]
    layers: int
    repeats: int
    reference_layers: int | None = None

    def __call__(self, generator: torch.Generator) -> list[dict[str, float]]:
        distances = torch.stack([self._distance(self.network(width=width), generator) for width in self.widths])
        logarithms = torch.tensor(self.widths, dtype=distances.dtype, device=distances.device).log()
        measured = with_log("gram_distance", distances)
        measured["slope"] = running_slope(logarithms, measured["log_gram_distance"])
        return rows("width", self.widths, measured)

    def _distance(self, network: GaussianNetwork, generator: torch.Generator) -> Tensor:
        n = network.samples
        centre = torch.eye(n, dtype=torch.float64, device=generator.device) / n
        if self.reference_layers is not None:
            centre = sum(self._grams(network, self.reference_layers, generator)) / self.reference_layers
        grams = self._grams(network, self.layers, generator)
        return sum(torch.linalg.matrix_norm(gram - centre) for gram in grams) / self.layers

    def _grams(self, network: GaussianNetwork, layers: int, generator: torch.Generator) -> Iterator[Tensor]:
        behind_the_input = islice(network.representations(self.repeats, generator), 1, layers + 1)
        return map(normalised_gram, behind_the_input)


def running_slope(x: Tensor, y: Tensor) -> Tensor:
    """Least-squares slopes of y (k, ...) over x (k,) through its first 1, 2, ... k points (k, ...); NaN for one point."""

    def mean(values: Tensor) -> Tensor:
        count = torch.arange(1, len(x) + 1, dtype=y.dtype, device=y.device)
        return values.cumsum(0) / count.view(-1, *[1] * (values.dim() - 1))

    x, y = (x - x.mean()).view(-1, *[1] * (y.dim() - 1)), y - y.mean(0)
    return (mean(x * y) - mean(x) * mean(y)) / (mean(x * x) - mean(x).square())
