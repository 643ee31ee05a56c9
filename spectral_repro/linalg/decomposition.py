"""A matrix function through one batched eigendecomposition, its gradient left to a method."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autocast import in_full_precision
from spectral_repro.linalg.functions import SpectralFunction


class Decomposition(ABC):
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
