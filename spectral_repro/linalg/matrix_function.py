"""Functions of symmetric matrices, differentiable by any backward method."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autocast import in_full_precision
from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.functions import SpectralFunction


def matrix_function(
    matrix: Tensor, function: SpectralFunction, backward: Backward = Exact(), shift: float = 0.0
) -> tuple[Tensor, Tensor]:
    """F(A) = f(A + s I) = V f(Lambda + s) V^T of symmetric matrices, from one batched eigendecomposition.

    The shift s comes after the decomposition, so that it does not drown the eigenvectors of an A much smaller than s.

    Args:
        matrix: A (..., d, d), symmetric (the lower triangle is read), float32 or float64.
        function: f, see `spectral_repro.linalg.functions`.
        backward: the gradient method, see `spectral_repro.linalg.backward`.
        shift: s >= 0; with s > 0 A is taken to be positive semidefinite, and what rounding puts below s / 2 is set to s / 2.

    Returns:
        F (..., d, d), differentiable once, and the shifted eigenvalues (..., d) in descending order, without gradient.

    A matrix with NaN or infinity gives NaN or raises torch.linalg.LinAlgError, as `torch.linalg.eigh` does.
    """
    return _MatrixFunction.apply(matrix, function, backward, shift)


class _MatrixFunction(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, matrix, function, backward, shift):
        eigenvalues, eigenvectors = (part.flip(-1) for part in torch.linalg.eigh(matrix))
        if shift > 0:
            eigenvalues = (eigenvalues + shift).clamp_min(shift / 2)
        ctx.function, ctx.backward_method = function, backward
        ctx.save_for_backward(eigenvalues, eigenvectors)
        ctx.mark_non_differentiable(eigenvalues)
        return (eigenvectors * function(eigenvalues).unsqueeze(-2)) @ eigenvectors.mT, eigenvalues

    @in_full_precision
    @once_differentiable
    def backward(ctx, gradient, _):
        eigenvalues, eigenvectors = ctx.saved_tensors
        kernel = ctx.backward_method.kernel(ctx.function, eigenvalues)
        rotated = eigenvectors.mT @ ((gradient + gradient.mT) / 2) @ eigenvectors
        return eigenvectors @ (kernel * rotated) @ eigenvectors.mT, None, None, None
