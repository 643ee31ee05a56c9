"""What a backward method is, and those that take one batched eigendecomposition."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autograd import in_full_precision
from spectral_repro.linalg.functions import InverseSqrt, SpectralFunction, Sqrt


class Backward(ABC):
    """A way to compute F(A) together with its gradient."""

    roots_only: ClassVar[bool] = False

    @property
    def current(self) -> "Backward":
        """The method itself; of several that take turns, the one whose turn it is."""
        return self

    @property
    def decomposes(self) -> bool:
        """Is it a `Decomposition`: does F come from eigenvalues and eigenvectors, its gradient from a kernel?"""
        return True

    @abstractmethod
    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        """F and the eigenvalues, as `matrix_function` returns them."""

    def check(self, function: SpectralFunction, shift: float) -> None:
        """Raises ValueError where the method has no meaning for f and the shift of `matrix_function`."""
        if self.roots_only and not isinstance(function, Sqrt | InverseSqrt):
            name = type(self).__name__
            raise ValueError(f"{name} is a gradient of the whole square root and inverse square root alone, not of {function}")


class Decomposition(Backward):
    """F = V diag(f(lambda)) V^T from `torch.linalg.eigh`, its gradient from a symmetric kernel D, most often as

    dL/dA = V (D o (V^T sym(dL/dF) V)) V^T,    D_ii = f'(lambda_i).
    """

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        return _Decomposed.apply(matrix, self.applied(function), self, shift)

    @abstractmethod
    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """D, shape (..., d, d), for eigenvalues (..., d) in descending order."""

    def applied(self, function: SpectralFunction) -> SpectralFunction:
        """What of f the method computes."""
        return function

    def inner(self, function: SpectralFunction, eigenvalues: Tensor, rotated: Tensor) -> Tensor:
        """V^T dL/dA V (..., d, d) for ``rotated`` = V^T sym(dL/dF) V."""
        return self.kernel(function, eigenvalues) * rotated

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, incoming: Tensor) -> Tensor:
        """dL/dA (..., d, d) of eigenvalues (..., d), descending, eigenvectors as columns and the symmetric part of dL/dF."""
        rotated = eigenvectors.mT @ incoming @ eigenvectors
        return eigenvectors @ self.inner(function, eigenvalues, rotated) @ eigenvectors.mT


class Gapped(Decomposition):
    """A gradient of the eigenvectors themselves: a choice of K_ij for 1 / (lambda_j - lambda_i), see `eigh`."""

    @abstractmethod
    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        """K (..., d, d), 0 on the diagonal, of eigenvalues (..., d) in descending order."""


class _Decomposed(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, matrix, function, method, shift):
        eigenvalues, eigenvectors = (part.flip(-1) for part in torch.linalg.eigh(matrix))
        if shift > 0:
            eigenvalues = (eigenvalues + shift).clamp_min(shift / 2)
        ctx.function, ctx.method = function, method
        ctx.save_for_backward(eigenvalues, eigenvectors)
        ctx.mark_non_differentiable(eigenvalues)
        return (eigenvectors * function(eigenvalues).unsqueeze(-2)) @ eigenvectors.mT, eigenvalues

    @in_full_precision
    @once_differentiable
    def backward(ctx, incoming, _):
        return ctx.method.gradient(ctx.function, *ctx.saved_tensors, (incoming + incoming.mT) / 2), None, None, None
