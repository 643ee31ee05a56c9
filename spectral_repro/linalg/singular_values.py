"""Matrices with their singular values clipped, with the exact gradient."""

from typing import Any

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import differentiable_once, in_full_precision
from spectral_repro.linalg.checks import check_positive


def clip_singular_values(matrix: Tensor, limit: float) -> Tensor:
    """U min(S, c) V^H of a matrix U S V^H, for c = ``limit``.

    The gradient consists of divided differences of min(s, c), between 0 and 1. It has no poles at equal singular values, unlike
    the gradient of `torch.linalg.svd`.

    Args:
        matrix: (..., m, n), real or complex, in single or double precision.
        limit: c > 0.

    Returns:
        (..., m, n), differentiable once.

    Raises:
        ValueError: unless limit > 0.

    Example:
        >>> clip_singular_values(torch.diag(torch.tensor([3.0, 1.0])), 2.0)
        tensor([[2., 0.],
                [0., 1.]])
    """
    check_positive("limit", limit)
    tall = matrix.shape[-2] > matrix.shape[-1]
    clipped: Tensor = _Clipped.apply(matrix.mT if tall else matrix, limit)[0]
    return clipped.mT if tall else clipped


class _Clipped(torch.autograd.Function):
    """For m <= n. With M = U^H G V, its Hermitian part H and its skew-Hermitian part K, f = min(s, c):

    dL/dA = U (D o H + E o K) V^H + U (f / s) U^H (G - G V V^H),
    D_ij = (f_i - f_j) / (s_i - s_j),   E_ij = (f_i + f_j) / (s_i + s_j).
    """

    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(matrix: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return (left * values.clamp_max(limit).unsqueeze(-2)) @ right, left, values, right

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        matrix, ctx.limit = inputs
        ctx.save_for_backward(matrix, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad_output: Tensor, *others: Tensor | None) -> tuple[Tensor, None]:
        matrix, left, values, right = ctx.saved_tensors
        middle = left.mH @ grad_output @ right.mH
        hermitian, skew = (middle + middle.mH) / 2, (middle - middle.mH) / 2
        clipped, tiny = values.clamp_max(ctx.limit), torch.finfo(values.dtype).tiny
        rows, columns = values.unsqueeze(-1), values.unsqueeze(-2)
        gaps = (rows - columns).abs()
        mixed = (ctx.limit - torch.minimum(rows, columns)) / gaps.clamp_min(tiny)
        within = torch.maximum(rows, columns) <= ctx.limit
        differences = torch.where(within, 1, torch.where(torch.minimum(rows, columns) < ctx.limit, mixed, 0))
        ratios = clipped / values.clamp_min(tiny)
        sums = (clipped.unsqueeze(-1) + clipped.unsqueeze(-2)) / (rows + columns).clamp_min(tiny)
        sums, ratios = (torch.where(x > 0, f, 1) for x, f in ((rows + columns, sums), (values, ratios)))
        inner = differences * hermitian + sums * skew - ratios.unsqueeze(-1) * middle
        grad_matrix = left @ (inner @ right + ratios.unsqueeze(-1) * (left.mH @ grad_output))
        if torch.is_grad_enabled():
            reason = "clip_singular_values cannot be differentiated twice"
            grad_matrix = differentiable_once(grad_matrix, reason, grad_output, matrix)
        return grad_matrix, None
