"""Functions of symmetric matrices, differentiable by any backward method."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.functions import SpectralFunction


def matrix_function(
    matrix: Tensor, function: SpectralFunction, backward: Backward = Exact(), floor: float | None = None
) -> tuple[Tensor, Tensor]:
    """F(A) = V f(Lambda) V^T of symmetric matrices, from one batched eigendecomposition.

    Args:
        matrix: (..., d, d), symmetric (the lower triangle is read), float32 or float64.
        function: f, see `spectral_repro.linalg.functions`.
        backward: the gradient method, see `spectral_repro.linalg.backward`.
        floor: a positive bound that only rounding can put an eigenvalue below; such eigenvalues are set to it. Well below the
            smallest possible eigenvalue it makes no ties among those that are all but equal.

    Returns:
        F (..., d, d), differentiable once, and the eigenvalues (..., d) in descending order, without gradient.

    Raises:
        torch.linalg.LinAlgError: if the matrix holds NaN or infinity.
    """
    return _MatrixFunction.apply(matrix, function, backward, floor)


class _MatrixFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matrix, function, backward, floor):
        eigenvalues, eigenvectors = (part.flip(-1) for part in torch.linalg.eigh(matrix))
        if floor is not None:
            eigenvalues = eigenvalues.clamp_min(floor)
        ctx.function, ctx.backward_method = function, backward
        ctx.save_for_backward(eigenvalues, eigenvectors)
        ctx.mark_non_differentiable(eigenvalues)
        return (eigenvectors * function(eigenvalues).unsqueeze(-2)) @ eigenvectors.mT, eigenvalues

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, _):
        eigenvalues, eigenvectors = ctx.saved_tensors
        kernel = ctx.backward_method.kernel(ctx.function, eigenvalues)
        rotated = eigenvectors.mT @ ((gradient + gradient.mT) / 2) @ eigenvectors
        return eigenvectors @ (kernel * rotated) @ eigenvectors.mT, None, None, None
