"""Which eigenvalues to keep: maps from eigenvalues (..., d), descending, to a boolean mask of the same shape."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Leading:
    """The ``count`` largest."""

    count: int

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        mask = torch.arange(eigenvalues.shape[-1], device=eigenvalues.device) < self.count
        return mask.expand(eigenvalues.shape)


@dataclass(frozen=True)
class AboveRounding:
    """Those above ``share`` of the largest; none of zeros."""

    share: float

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues > self.share * eigenvalues[..., :1]


@dataclass(frozen=True)
class Information:
    """The fewest leading ones whose sum reaches ``share`` of the total; 1 keeps all."""

    share: float

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        if self.share >= 1:
            return torch.ones_like(eigenvalues, dtype=torch.bool)
        sums = eigenvalues.cumsum(-1)
        return sums - eigenvalues < self.share * sums[..., -1:]


@dataclass(frozen=True)
class PublishedCut:
    """The cut of wang2019's published SVD-PI code: kept while the cumulative share stays below 1 - eps and lambda > eps.

    The cumulative share includes the direction itself and ends at 1, so at least the smallest direction is always dropped.
    """

    eps: float

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        sums = eigenvalues.cumsum(-1)
        return (sums < (1 - self.eps) * sums[..., -1:]) & (eigenvalues > self.eps)


@dataclass(frozen=True)
class PublishedSVDCut:
    """The cut of wang2019's published plain SVD code: up to and including the first lambda <= eps, or only the largest.

    Since eps was added to all eigenvalues before, a covariance of full rank keeps only one direction.
    """

    eps: float

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        small = eigenvalues <= self.eps
        before = small.cumsum(-1) - small.long() == 0
        return torch.where(small.any(-1, keepdim=True), before, Leading(1)(eigenvalues))


@dataclass(frozen=True)
class Both:
    """Those that both selections keep."""

    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return self.first(eigenvalues) & self.second(eigenvalues)
