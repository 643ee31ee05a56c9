"""Backward methods of a symmetric eigendecomposition, each one symmetric kernel.

With A = V diag(lambda) V^T, F = V diag(f(lambda)) V^T and G = dL/dF, every method is

    dL/dA = V (D o (V^T sym(G) V)) V^T,    D_ii = f'(lambda_i),

and differs only in D off the diagonal. Eigenvalues come in descending order, so that of a pair i < j the first is the larger.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spectral_repro.linalg.functions import SpectralFunction


class Backward(Protocol):
    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """D, shape (..., d, d), for eigenvalues (..., d) in descending order."""
        ...


@dataclass(frozen=True)
class Exact:
    """The derivative itself (Daleckii-Krein): D_ij = f[lambda_i, lambda_j], the divided difference.

    Written without subtraction where f allows it, so ties and tiny gaps cost no accuracy. For a smooth f bounded by max |f'|.
    """

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        return function.divided_differences(eigenvalues)


@dataclass(frozen=True)
class PlainSVD:
    """The textbook gradient of an eigendecomposition: D_ij = (f_i - f_j) * K_ij, K_ij = 1 / (lambda_i - lambda_j).

    Equal to `Exact` in exact arithmetic. In floating point K overflows as a gap closes, and a tie gives 0 * inf = NaN, which is
    left as it is: this is the method whose failures wang2019 and song2021 set out to mend.
    """

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        values = function(eigenvalues)
        inverse_gap = 1 / (eigenvalues.unsqueeze(-1) - eigenvalues.unsqueeze(-2))
        upper = (values.unsqueeze(-1) - values.unsqueeze(-2)) * inverse_gap
        return _symmetric(upper, function.derivative(eigenvalues))


@dataclass(frozen=True)
class PowerIteration:
    """The gradient through K power iterations and deflation (wang2019, SVD-PI), all eigenvectors at once.

    With r = lambda_j / lambda_i <= 1 and S_K(r) = 1 + r + ... + r^K,

        D_ij = (f_i S_K(r) - f_j S_{K-1}(r)) / lambda_i    for lambda_i >= lambda_j,

    the geometric series of the exact 1 / (lambda_i - lambda_j) cut after K terms: bounded by (K + 1) / lambda_i per unit of f,
    equal to `Exact` up to r^K / (1 - r). Needs positive eigenvalues.

    Raises:
        ValueError: if ``iterations`` is not a positive whole number.
    """

    iterations: int = 19

    def __post_init__(self):
        if not isinstance(self.iterations, int) or self.iterations < 1:
            raise ValueError(f"iterations={self.iterations!r} must be a whole number >= 1")

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        values = function(eigenvalues)
        larger, smaller = eigenvalues.unsqueeze(-1), eigenvalues.unsqueeze(-2)
        relative_gap = (larger - smaller) / larger
        longer = _geometric_sum(relative_gap, self.iterations)
        shorter = _geometric_sum(relative_gap, self.iterations - 1)
        upper = (values.unsqueeze(-1) * longer - values.unsqueeze(-2) * shorter) / larger
        return _symmetric(upper, function.derivative(eigenvalues))


def _geometric_sum(x: Tensor, degree: int) -> Tensor:
    """S_K(1 - x) = (1 - (1 - x)^(K+1)) / x without cancellation, K = ``degree``, 0 <= x <= 1; K + 1 at x = 0."""
    tie = x == 0
    series = -torch.expm1((degree + 1) * torch.log1p(-x)) / torch.where(tie, 1.0, x)
    return torch.where(tie, degree + 1.0, series)


def _symmetric(upper: Tensor, diagonal: Tensor) -> Tensor:
    """The symmetric matrix with the strict upper triangle of ``upper``."""
    upper = upper.triu(1)
    return upper + upper.mT + torch.diag_embed(diagonal)
