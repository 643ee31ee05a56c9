"""Methods that compute F step by step and let autograd differentiate the steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward.method import Backward
from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.functions import SpectralFunction
from spectral_repro.linalg.hermitian import identity
from spectral_repro.linalg.power_iteration import power_eigenvectors


@dataclass(frozen=True)
class AutogradSVD(Backward):
    """Autograd's gradient of F = V diag(f(sigma)) V^T, A + s I = U diag(sigma) V^T by `torch.linalg.svd` (wang2019's SVD).

    Like `PlainSVD`, but as in the published code: the shift is added before the decomposition, and an eigenvalue that rounding
    made negative counts with its absolute value.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=AutogradSVD())[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=AutogradSVD())[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(nan)
    """

    @property
    def decomposes(self) -> bool:
        return False

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        _, values, transposed = torch.linalg.svd(matrix + shift * identity(matrix))
        return (transposed.mT * function(values).unsqueeze(-2)) @ transposed, values.detach()


@dataclass(frozen=True)
class UnrolledPowerIteration(Backward):
    """Power iteration in both passes (wang2019, PI): no eigendecomposition at all.

    Every eigenvector of A + s I comes from a random start by K steps v <- A v / |A v|, its eigenvalue is the Rayleigh quotient,
    and A <- A - A v v^T before the next (`power_eigenvectors`). The sequence ends at the first eigenvalue that is larger than
    the one before it or below s; that one and all after it count as 0. The gradient is that of these steps.

    Starts are drawn from torch's global generator, so two calls differ.

    Args:
        iterations: K, for each eigenvector.

    Raises:
        ValueError: if ``iterations`` is not a positive whole number, or the shift s of `matrix_function` is not positive.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=UnrolledPowerIteration(19), shift=1e-6)
        tensor([[1.5000, 0.5000],
                [0.5000, 1.5000]], grad_fn=...)
    """

    iterations: int = 19

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)

    @property
    def decomposes(self) -> bool:
        return False

    def check(self, function: SpectralFunction, shift: float) -> None:
        super().check(function, shift)
        if not shift > 0:
            raise ValueError(f"shift={shift}: must be > 0, because power iteration stops at eigenvalues below it")

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        eigenvalues, eigenvectors = power_eigenvectors(matrix + shift * identity(matrix), self.iterations)
        kept = _until_it_rises(eigenvalues, shift)
        values = torch.where(kept, function(torch.where(kept, eigenvalues, shift)), 0.0)
        F = (eigenvectors * values.unsqueeze(-2)) @ eigenvectors.mT
        return F, torch.where(kept, eigenvalues, 0.0).detach()


def _until_it_rises(eigenvalues: Tensor, floor: float) -> Tensor:
    """A mask of those before the first that is larger than the one before it or below ``floor``; the first is always in."""
    goes_on = (eigenvalues[..., 1:] <= eigenvalues[..., :-1]) & (eigenvalues[..., 1:] >= floor)
    first = torch.ones_like(goes_on[..., :1])
    return torch.cat([first, goes_on], -1).cumprod(-1).bool()
