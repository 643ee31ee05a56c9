"""Scalar functions f of eigenvalues, with what a gradient needs of them.

Every function answers three questions about eigenvalues of shape (..., d): its values, its derivative (both (..., d)) and
its divided differences f[a, b] = (f(a) - f(b)) / (a - b) of all pairs, (..., d, d), with f' where a = b.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class SpectralFunction(Protocol):
    def __call__(self, eigenvalues: Tensor) -> Tensor: ...

    def derivative(self, eigenvalues: Tensor) -> Tensor: ...

    def divided_differences(self, eigenvalues: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class InverseSqrt:
    """f(x) = x^(-1/2) for x > 0; f[a, b] = -1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b))) has no subtraction."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.rsqrt()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return -0.5 * eigenvalues.rsqrt() / eigenvalues

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        root = eigenvalues.sqrt()
        a, b = root.unsqueeze(-1), root.unsqueeze(-2)
        return -1 / (a * b * (a + b))


@dataclass(frozen=True)
class One:
    """f(x) = 1: restricted to some eigenvalues, the projector on their eigenvectors."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return torch.ones_like(eigenvalues)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return torch.zeros_like(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.new_zeros(*eigenvalues.shape, eigenvalues.shape[-1])


@dataclass(frozen=True)
class Restricted:
    """``function`` on the eigenvalues that ``keep`` marks, zero on the others.

    ``keep`` maps eigenvalues (..., d) in descending order to a boolean mask of the same shape and counts as constant in the
    gradient. A kept a and a dropped b have f[a, b] = f(a) / (a - b), which no formula bounds: pairs closer than the
    float32 rounding unit times the largest eigenvalue are ties, whose subspace no gradient can tell apart, and get 0.
    """

    function: SpectralFunction
    keep: Callable[[Tensor], Tensor]

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return torch.where(self.keep(eigenvalues), self.function(eigenvalues), 0.0)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return torch.where(self.keep(eigenvalues), self.function.derivative(eigenvalues), 0.0)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        kept, values = self.keep(eigenvalues), self(eigenvalues)
        gap = eigenvalues.unsqueeze(-1) - eigenvalues.unsqueeze(-2)
        tied = gap.abs() <= torch.finfo(torch.float32).eps * eigenvalues[..., :1, None]
        across_cut = (values.unsqueeze(-1) - values.unsqueeze(-2)) / torch.where(tied, torch.inf, gap)
        both_kept = kept.unsqueeze(-1) & kept.unsqueeze(-2)
        one_kept = kept.unsqueeze(-1) ^ kept.unsqueeze(-2)
        return torch.where(both_kept, self.function.divided_differences(eigenvalues), torch.where(one_kept, across_cut, 0.0))
