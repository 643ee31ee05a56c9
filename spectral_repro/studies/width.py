"""The distance from the mean Gram matrix, by width."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from typing import Annotated

import torch
from annotated_types import Predicate
from torch import Tensor

from spectral_repro.bounds import Count
from spectral_repro.linalg.orthogonality import normalised_gram
from spectral_repro.studies.gaussian import GaussianStudy
from spectral_repro.studies.summary import rows, with_log


def is_ascending(value: Sequence[int]) -> bool:
    """a list of at least 2 whole numbers >= 1, ascending"""
    return len(value) >= 2 and list(value) == sorted(set(value))


@dataclass(frozen=True, kw_only=True)
class Width(GaussianStudy):
    """The mean over layers of || M_l - K ||_F, M_l = H_l^T H_l / ||H_l||_F^2, by width, and its slope in the log-log plane.

    K is I/n, which makes it the mean orthogonality gap (daneshmand2021, Figure 2b), or with ``reference_layers`` the mean of
    M_l over so many layers of a network of its own (Figure 6). The input is not among the layers. A row's slope is that of the
    least-squares line through log distance against log width, from the first width up to the row's; NaN in the first row.
    Every value is a mean over the networks, logarithms and slopes taken network by network; in float64.

    Attributes:
        widths: ascending.
        reference_layers: None for K = I/n.

    Example:
        >>> options = {"samples": 4, "batch_norm": True, "activation": "identity", "start": None, "layers": 20, "repeats": 3}
        >>> study = Width(**options, widths=[16, 64, 256], reference_layers=None)
        >>> -0.8 < study(torch.Generator().manual_seed(0))[-1]["slope"] < -0.2  # the gap falls as width^(-1/2)
        True
    """

    widths: Annotated[Sequence[Count], Predicate(is_ascending)]
    reference_layers: Count | None

    def __post_init__(self) -> None:
        self.check(min(self.widths))

    def __call__(self, generator: torch.Generator) -> list[dict[str, float]]:
        distances = torch.stack([self._distance(width, generator) for width in self.widths])
        logarithms = torch.tensor(self.widths, dtype=distances.dtype, device=distances.device).log()
        measured = with_log("gram_distance", distances)
        measured["slope"] = running_slope(logarithms, measured["log_gram_distance"])
        return rows("width", self.widths, measured)

    def _distance(self, width: int, generator: torch.Generator) -> Tensor:
        centre = torch.eye(self.samples, dtype=torch.float64, device=generator.device) / self.samples
        if self.reference_layers is not None:
            centre = reduce(torch.add, self._grams(width, self.reference_layers, generator)) / self.reference_layers
        distances = (torch.linalg.matrix_norm(gram - centre) for gram in self._grams(width, self.layers, generator))
        return reduce(torch.add, distances) / self.layers

    def _grams(self, width: int, layers: int, generator: torch.Generator) -> Iterator[Tensor]:
        after_the_input = islice(self.representations(width, generator), 1, layers + 1)
        return map(normalised_gram, after_the_input)


def running_slope(x: Tensor, y: Tensor) -> Tensor:
    """Least-squares slopes of y (k, ...) over x (k,) through its first 1, 2, ... k points (k, ...); NaN for one point."""

    def mean(values: Tensor) -> Tensor:
        count = torch.arange(1, len(x) + 1, dtype=y.dtype, device=y.device)
        return values.cumsum(0) / count.view(-1, *[1] * (values.dim() - 1))

    x, y = (x - x.mean()).view(-1, *[1] * (y.dim() - 1)), y - y.mean(0)
    return (mean(x * y) - mean(x) * mean(y)) / (mean(x * x) - mean(x).square())
