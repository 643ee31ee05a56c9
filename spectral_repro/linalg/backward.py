"""Backward methods of matrix functions.

With A = V diag(lambda) V^T, F = V diag(f(lambda)) V^T and G = dL/dF, all but two of them are one symmetric kernel D,

    dL/dA = V (D o (V^T sym(G) V)) V^T,    D_ii = f'(lambda_i),

and differ only in D off the diagonal. Eigenvalues come in descending order, so that of a pair i < j the first is the larger.
`PlainSVD` goes through the eigenvectors instead, `AutogradSVD` is automatic differentiation itself, and
`UnrolledPowerIteration` does without the decomposition.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spectral_repro.linalg.decomposition import Decomposition
from spectral_repro.linalg.functions import SpectralFunction
from spectral_repro.linalg.power_iteration import power_eigenvectors


class Backward(Protocol):
    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        """F and the eigenvalues of `matrix_function`."""
        ...


class Kernel(Decomposition):
    @abstractmethod
    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """D, shape (..., d, d), for eigenvalues (..., d) in descending order."""

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, incoming: Tensor) -> Tensor:
        rotated = eigenvectors.mT @ incoming @ eigenvectors
        return eigenvectors @ (self.kernel(function, eigenvalues) * rotated) @ eigenvectors.mT


@dataclass(frozen=True)
class Exact(Kernel):
    """The derivative itself (Daleckii-Krein): D_ij = f[lambda_i, lambda_j], the divided difference.

    Written without subtraction where f allows it, so ties and tiny gaps cost no accuracy. For a smooth f bounded by max |f'|.
    """

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        return function.divided_differences(eigenvalues)


@dataclass(frozen=True)
class PlainSVD(Decomposition):
    """The textbook gradient of an eigendecomposition, chained through the eigenvectors as automatic differentiation does.

    dL/dV = 2 sym(G) V diag(f), and with K_ij = 1 / (lambda_j - lambda_i) off the diagonal, 0 on it,

        dL/dA = sym(V (K o (V^T dL/dV) + diag(dL/dlambda)) V^T).

    Equal to `Exact` in exact arithmetic. In floating point the two triangles no longer cancel: what rounding leaves of
    V^T dL/dV, about u |G| f, is divided by the gap. A tie gives infinity or NaN, left as it is: this is the method whose
    failures wang2019 and song2021 set out to mend.
    """

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, incoming: Tensor) -> Tensor:
        rotated = eigenvectors.mT @ (incoming @ eigenvectors)
        chained = eigenvectors.mT @ (2 * incoming @ (eigenvectors * function(eigenvalues).unsqueeze(-2)))
        gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
        gaps.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        of_eigenvalues = torch.diag_embed(function.derivative(eigenvalues) * rotated.diagonal(dim1=-2, dim2=-1))
        slope = eigenvectors @ (chained / gaps + of_eigenvalues) @ eigenvectors.mT
        return (slope + slope.mT) / 2


@dataclass(frozen=True)
class AutogradSVD:
    """What torch makes of F = V diag(f(sigma)) V^T with A + s I = U diag(sigma) V^T from `torch.linalg.svd` (wang2019's SVD).

    As `PlainSVD`, in the form of the published code: the shift comes before the decomposition, and an eigenvalue that rounding
    left negative counts with its absolute value.
    """

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        with torch.autocast(matrix.device.type, enabled=False):
            shifted = matrix + shift * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            _, values, transposed = torch.linalg.svd(shifted)
            return (transposed.mT * function(values).unsqueeze(-2)) @ transposed, values.detach()


@dataclass(frozen=True)
class PowerIteration(Kernel):
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
        _check(self.iterations)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        values = function(eigenvalues)
        larger, smaller = eigenvalues.unsqueeze(-1), eigenvalues.unsqueeze(-2)
        relative_gap = (larger - smaller) / larger
        longer = _geometric_sum(relative_gap, self.iterations)
        shorter = _geometric_sum(relative_gap, self.iterations - 1)
        upper = (values.unsqueeze(-1) * longer - values.unsqueeze(-2) * shorter) / larger
        return _symmetric(upper, function.derivative(eigenvalues))


@dataclass(frozen=True)
class UnrolledPowerIteration:
    """Power iteration in both passes (wang2019, PI): no eigendecomposition at all.

    Every eigenvector of A + s I comes from a random start by K steps v <- A v / |A v|, its eigenvalue is the Rayleigh quotient,
    and A <- A - A v v^T before the next (`power_eigenvectors`). A matrix stops, and F has no more directions, where the
    eigenvalue rises again or falls below s; the eigenvalues after that are 0. The gradient is that of these very steps.

    Starts are drawn from torch's global generator, so two calls differ.

    Raises:
        ValueError: if ``iterations`` is not a positive whole number, or the shift s of `matrix_function` is not positive.
    """

    iterations: int = 19

    def __post_init__(self):
        _check(self.iterations)

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        if not shift > 0:
            raise ValueError(f"shift={shift} must be > 0: power iteration stops at eigenvalues below it")
        with torch.autocast(matrix.device.type, enabled=False):
            shifted = matrix + shift * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            eigenvalues, eigenvectors = power_eigenvectors(shifted, self.iterations)
            kept = _until_it_rises(eigenvalues, shift)
            values = torch.where(kept, function(torch.where(kept, eigenvalues, shift)), 0.0)
            F = (eigenvectors * values.unsqueeze(-2)) @ eigenvectors.mT
            return F, torch.where(kept, eigenvalues, 0.0).detach()


def _until_it_rises(eigenvalues: Tensor, floor: float) -> Tensor:
    """A mask of those before the first that is larger than the one before it or below ``floor``; the first is always in."""
    goes_on = (eigenvalues[..., 1:] <= eigenvalues[..., :-1]) & (eigenvalues[..., 1:] >= floor)
    first = torch.ones_like(goes_on[..., :1])
    return torch.cat([first, goes_on], -1).cumprod(-1).bool()


def _check(iterations: int) -> None:
    if not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations={iterations!r} must be a whole number >= 1")


def _geometric_sum(x: Tensor, degree: int) -> Tensor:
    """S_K(1 - x) = (1 - (1 - x)^(K+1)) / x without cancellation, K = ``degree``, 0 <= x <= 1; K + 1 at x = 0."""
    tie = x == 0
    series = -torch.expm1((degree + 1) * torch.log1p(-x)) / torch.where(tie, 1.0, x)
    return torch.where(tie, degree + 1.0, series)


def _symmetric(upper: Tensor, diagonal: Tensor) -> Tensor:
    """The symmetric matrix with the strict upper triangle of ``upper``."""
    upper = upper.triu(1)
    return upper + upper.mT + torch.diag_embed(diagonal)
