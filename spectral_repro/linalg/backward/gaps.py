"""Gradients through the eigenvectors, divided by the gaps between eigenvalues."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward.method import Gapped
from spectral_repro.linalg.checks import check_count, check_positive
from spectral_repro.linalg.functions import Restricted, SpectralFunction
from spectral_repro.linalg.selection import Leading


class ThroughEigenvectors(Gapped):
    """The gradient chained through the eigenvectors, as automatic differentiation does it.

    dL/dV = 2 sym(G) V diag(f), and with K_ij in the place of 1 / (lambda_j - lambda_i) off the diagonal, 0 on it,

        dL/dA = sym(V (K o (V^T dL/dV) + diag(dL/dlambda)) V^T).

    Example:
        >>> class Damped(ThroughEigenvectors):
        ...     def reciprocal_gaps(self, eigenvalues):
        ...         gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
        ...         return gaps / (gaps.square() + 1e-6)
        >>> A = torch.eye(2, requires_grad=True)
        >>> sqrtm(A, backward=Damped()).trace().backward()
        >>> A.grad.diagonal()
        tensor([0.5000, 0.5000])
    """

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """f_j K_ij + f_i K_ji, by the chain rule."""
        upper = function(eigenvalues).unsqueeze(-2) * self.reciprocal_gaps(eigenvalues)
        return upper + upper.mT + torch.diag_embed(function.derivative(eigenvalues))

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, grad_output: Tensor) -> Tensor:
        rotated = eigenvectors.mT @ (grad_output @ eigenvectors)
        chained = eigenvectors.mT @ (2 * grad_output @ (eigenvectors * function(eigenvalues).unsqueeze(-2)))
        grad_eigenvalues = torch.diag_embed(function.derivative(eigenvalues) * rotated.diagonal(dim1=-2, dim2=-1))
        grad_matrix = eigenvectors @ (chained * self.reciprocal_gaps(eigenvalues) + grad_eigenvalues) @ eigenvectors.mT
        return (grad_matrix + grad_matrix.mT) / 2


def reciprocal(gaps: Tensor) -> Tensor:
    """1 / gaps off the diagonal, 0 on it."""
    gaps.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    return 1 / gaps


@dataclass(frozen=True)
class PlainSVD(ThroughEigenvectors):
    """K_ij = 1 / (lambda_j - lambda_i): the textbook gradient of an eigendecomposition.

    Equal to `Exact` in exact arithmetic. In floating point the two triangles do not cancel exactly: the rounding error, about u
    |G| f, is divided by the gap. A tie gives infinity or NaN. This is the method whose failures wang2019 and song2021 address.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=PlainSVD())[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=PlainSVD())[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(nan)
    """

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        return reciprocal(eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1))


@dataclass(frozen=True)
class Truncated(ThroughEigenvectors):
    """K_ij = 1 / (lambda_j - lambda_i), clamped to [-limit, limit] (song2021, SVD-Trunc).

    Equal to `PlainSVD` for gaps above 1 / limit. For smaller gaps the gradient shrinks in proportion to the gap, to 0 at a tie,
    where K is 0. The rounding error is at most u |G| f limit.

    Args:
        limit: largest reciprocal gap.

    Raises:
        ValueError: if ``limit`` is not positive.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=Truncated(1e6))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=Truncated(1e6))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.)
    """

    limit: float = 1e10

    def __post_init__(self) -> None:
        check_positive("limit", self.limit)

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
        return torch.where(gaps == 0, 0.0, reciprocal(gaps).clamp(-self.limit, self.limit))


@dataclass(frozen=True)
class TopN(ThroughEigenvectors):
    """`PlainSVD` with all but the n largest eigenvalues set to zero, in F and in the gaps (song2021).

    f is 0 for dropped eigenvalues, and K_ij = 1 / (0 - lambda_i) between a kept i and a dropped j, however close they are. K is
    unbounded among the kept ones only. The result is far from the exact gradient of F unless the dropped eigenvalues are
    negligible. The published code drops the 50 smallest.

    Args:
        n: how many eigenvalues count.

    Raises:
        ValueError: if ``n`` is not a positive whole number.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=TopN(1))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.0625)
    """

    n: int

    def __post_init__(self) -> None:
        check_count("n", self.n)

    def applied(self, function: SpectralFunction) -> SpectralFunction:
        return Restricted(function, Leading(self.n))

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        kept = Leading(self.n)(eigenvalues)
        counted = torch.where(kept, eigenvalues, 0.0)
        both_dropped = ~(kept.unsqueeze(-1) | kept.unsqueeze(-2))
        return torch.where(both_dropped, 0.0, reciprocal(counted.unsqueeze(-2) - counted.unsqueeze(-1)))
