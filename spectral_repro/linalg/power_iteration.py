"""Power iteration: eigenvectors with the gradient through every step, and norms with the gradient at a fixed vector."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import differentiable_once

REASON = "power iteration has no second derivative and no forward mode: use Exact()"
FIXED = (
    "a norm by power iteration has no second derivative in training, where the vectors of the iteration count as constants: "
    "use evaluation mode"
)


def power_eigenvectors(matrix: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors one after the other, by power iteration and deflation.

    From a random unit vector, v <- A v / |A v| ``iterations`` times; lambda = v^T A v; then A <- A - A v v^T for the next.

    Args:
        matrix: A (..., d, d), positive definite, float32 or float64.
        iterations: steps for each eigenvector.

    Returns:
        lambda (..., d) in the order found, and the v as columns (..., d, d), both differentiable once.
    """
    starts = torch.randn(matrix.shape, dtype=matrix.dtype, device=matrix.device)
    eigenvalues, eigenvectors = [], []
    for start in (starts / torch.linalg.vector_norm(starts, dim=-2, keepdim=True)).unbind(-1):
        v, _, _ = _Iterated.apply(matrix, start.unsqueeze(-1), iterations)
        image = matrix @ v
        eigenvalues.append((v * image).sum((-2, -1)))
        eigenvectors.append(v)
        matrix = matrix - image @ v.mT
    return torch.stack(eigenvalues, -1), torch.cat(eigenvectors, -1)


def norm_of_image(image: Tensor) -> Tensor:
    """|A v| for the vector v of a power iteration, differentiable once.

    If v is the first right singular vector, |A v| is |A| and both have the same first derivative. Their second derivatives
    differ, because v depends on A, so the second derivative of |A v| raises an error. Derivatives of functions of the norm are
    not affected: a penalty of the gradient with respect to an input, for example, is differentiable with respect to A.

    Args:
        image: A v, of any shape, a function of A alone.

    Returns:
        A tensor of one number.

    Raises:
        NotImplementedError: in a later pass that differentiates the gradient with respect to A again.

    Example:
        >>> norm_of_image(torch.diag(torch.tensor([3.0, 1.0])) @ torch.tensor([1.0, 0.0]))
        tensor(3.)
    """
    # torch.compile refuses all second derivatives by itself
    norm: Tensor = torch.linalg.vector_norm(image) if torch.compiler.is_compiling() else _NormOfImage.apply(image)
    return norm


class _NormOfImage(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(image: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(image)
        return norm

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output * _direction(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return (tangent * _direction(*ctx.saved_tensors)).sum()


def _direction(image: Tensor, norm: Tensor) -> Tensor:
    """A v / |A v|, and 0 for A v = 0; to differentiate it is an error."""
    with torch.no_grad():
        direction = image / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return differentiable_once(direction, FIXED, image) if torch.is_grad_enabled() else direction


class _Iterated(torch.autograd.Function):
    """v_K of v_k = A v_{k-1} / |A v_{k-1}|.

    With p_k = (I - v_k v_k^T) g_k / |A v_{k-1}| and g_{k-1} = A^T p_k, dL/dA = sum_k p_k v_{k-1}^T: one product in the end.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, v: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
        path, lengths = [v], []
        tiny = torch.finfo(v.dtype).tiny
        for _ in range(iterations):
            v = matrix @ v
            lengths.append(torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp_min(tiny))
            v = v / lengths[-1]
            path.append(v)
        return v, torch.cat(path, -1), torch.cat(lengths, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, path, lengths = output
        ctx.mark_non_differentiable(path, lengths)
        ctx.save_for_backward(inputs[0], path, lengths)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor | None) -> tuple[Tensor, None, None]:
        matrix, path, lengths = ctx.saved_tensors
        grad_v, projections = grad_output, []
        with torch.no_grad():
            for v, length in zip(path.split(1, -1)[:0:-1], lengths.split(1, -1)[::-1], strict=True):
                projected = (grad_v - v * (v.mT @ grad_v)) / length
                projections.append(projected)
                grad_v = matrix.mT @ projected
            grad_matrix = torch.cat(projections, -1) @ path[..., :-1].flip(-1).mT
        if torch.is_grad_enabled():
            grad_matrix = differentiable_once(grad_matrix, REASON, matrix, grad_output)
        return grad_matrix, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        raise NotImplementedError(REASON)
