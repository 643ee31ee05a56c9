"""What a backward method is, and those that take one batched eigendecomposition."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autocast import in_full_precision
from spectral_repro.linalg.functions import InverseSqrt, SpectralFunction, Sqrt


class Backward(ABC):
    """A way to compute F(A) together with its gradient."""

    roots_only: ClassVar[bool] = False

    @abstractmethod
    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        """F and the eigenvalues, as `matrix_function` returns them."""

    def check(self, function: SpectralFunction) -> None:
        """Raises ValueError where the method has no meaning for f."""
        if self.roots_only and not isinstance(function, Sqrt | InverseSqrt):
            name = type(self).__name__
            raise ValueError(f"{name} is a gradient of the whole square root and inverse square root alone, not of {function}")


class Decomposition(Backward):
    """F = V diag(f(lambda)) V^T from `torch.linalg.eigh`; a subclass says what the gradient is."""

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        return _Decomposed.apply(matrix, function, self, shift)

    @abstractmethod
    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, incoming: Tensor) -> Tensor:
        """dL/dA (..., d, d) of eigenvalues (..., d), descending, eigenvectors as columns and the symmetric part of dL/dF."""


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
