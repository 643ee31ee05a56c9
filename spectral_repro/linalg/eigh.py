"""Eigenvalues and eigenvectors, differentiable by any backward method that has reciprocal gaps."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autograd import in_full_precision
from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.backward.decomposition import Gapped
from spectral_repro.linalg.functions import Power


def eigh(matrix: Tensor, backward: Backward = Exact()) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric matrices, A = V diag(lambda) V^T.

    With the method's K_ij in the place of 1 / (lambda_j - lambda_i) off the diagonal and 0 on it, the gradient is

        dL/dA = sym(V (diag(dL/dlambda) + K o (V^T dL/dV)) V^T),

    where a pair whose entry of V^T dL/dV is 0 passes nothing, tied or not. It has a meaning if L does not depend on the signs
    of the eigenvectors, nor on their choice where eigenvalues are equal; there K_ij is 0 for `Exact` and `Truncated`, and
    infinite for `PlainSVD`.

    Args:
        matrix: A (..., d, d), symmetric (the lower triangle is read), float32 or float64.
        backward: `Exact`, `PlainSVD`, `Truncated` and `TopN`, which gives 0 for all eigenvalues but the n largest;
            `Taylor`, `Pade` and `PowerIteration` for positive eigenvalues; or a `Hybrid` whose turn one of them has.

    Returns:
        lambda (..., d) in descending order and V (..., d, d), eigenvectors as columns, both differentiable once.

    Raises:
        ValueError: for a method without reciprocal gaps.

    A matrix with NaN or infinity gives NaN or raises torch.linalg.LinAlgError, as `torch.linalg.eigh` does.
    """
    method = backward.current
    if not isinstance(method, Gapped):
        raise ValueError(f"backward={method}: must be a method with reciprocal gaps, such as Exact() or Taylor()")
    return _Eigh.apply(matrix, method)


class _Eigh(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, matrix, method):
        eigenvalues, eigenvectors = (part.flip(-1) for part in torch.linalg.eigh(matrix))
        ctx.method, ctx.counted = method, method.applied(Power(1.0))
        ctx.save_for_backward(eigenvalues, eigenvectors)
        return ctx.counted(eigenvalues), eigenvectors

    @in_full_precision
    @once_differentiable
    def backward(ctx, of_eigenvalues, of_eigenvectors):
        eigenvalues, eigenvectors = ctx.saved_tensors
        rotated = eigenvectors.mT @ of_eigenvectors
        turned = torch.where(rotated == 0, 0.0, rotated * ctx.method.reciprocal_gaps(eigenvalues))
        inner = turned + torch.diag_embed(of_eigenvalues * ctx.counted.derivative(eigenvalues))
        slope = eigenvectors @ inner @ eigenvectors.mT
        return (slope + slope.mT) / 2, None
