"""Eigenvalues and eigenvectors, differentiable by any backward method that has reciprocal gaps."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import differentiable_once, in_full_precision
from spectral_repro.linalg.backward import Backward, Exact, Gapped
from spectral_repro.linalg.backward.method import check_method, first_order_alone
from spectral_repro.linalg.functions import Power
from spectral_repro.linalg.hermitian import check_symmetric, decompose


def eigh(matrix: Tensor, backward: Backward = Exact()) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric matrices, A = V diag(lambda) V^T.

    With the method's K_ij in the place of 1 / (lambda_j - lambda_i) off the diagonal and 0 on it, the gradient is

        dL/dA = sym(V (diag(dL/dlambda) + K o (V^T dL/dV)) V^T),

    where a pair whose entry of V^T dL/dV is 0 contributes nothing, even at a tie. The gradient is meaningful if L does not
    depend on the signs of the eigenvectors, nor on their choice where eigenvalues are equal. At such a tie, K_ij is 0 for
    `Exact` and `Truncated`, and infinite for `PlainSVD`.

    Args:
        matrix: A (..., d, d), symmetric (the lower triangle is read), float32 or float64.
        backward: `Exact`, `PlainSVD`, `Truncated` and `TopN`, which gives 0 for all eigenvalues but the n largest;
            `Taylor`, `Pade` and `PowerIteration` for positive eigenvalues; or a `Hybrid` of them.

    Returns:
        lambda (..., d) in descending order (torch's ascend) and V (..., d, d), eigenvectors as columns. Both have a gradient.
        `Exact` also has higher derivatives, not meaningful at a tie, and forward mode; the other methods raise
        NotImplementedError for these, and every method does for forward over forward mode. `torch.func.grad`, `vmap` and
        `jacrev` work with all.

    Raises:
        ValueError: for a matrix of another shape or dtype, and for a method without reciprocal gaps.

    A matrix with NaN or infinity gives NaN or raises torch.linalg.LinAlgError, as `torch.linalg.eigh` does.

    Example:
        >>> eigenvalues, eigenvectors = eigh(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
        >>> eigenvalues
        tensor([3., 2., 1.])
    """
    check_symmetric(matrix)
    check_method("backward", backward)
    method = backward.current
    if not isinstance(method, Gapped):
        raise ValueError(f"backward={method}: must be a method with reciprocal gaps, such as Exact() or Taylor()")
    eigenvalues, eigenvectors = _Eigh.apply(matrix, *decompose(matrix.detach()), method)
    return method.applied(Power(1.0))(eigenvalues), eigenvectors


class _Eigh(torch.autograd.Function):
    """Eigenvalues and eigenvectors of A with their gradients, formulas of lambda and V that are functions of A again."""

    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(matrix: Tensor, eigenvalues: Tensor, eigenvectors: Tensor, method: Gapped) -> tuple[Tensor, Tensor]:
        return eigenvalues.clone(), eigenvectors.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.method = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        matrix, *decomposition = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _gradient(ctx.method, *decomposition, *grad_outputs), None, None, None
        if ctx.method.is_derivative:
            return _gradient(ctx.method, *_Eigh.apply(matrix, *decomposition, ctx.method), *grad_outputs), None, None, None
        with torch.no_grad():
            grad_matrix = _gradient(ctx.method, *decomposition, *grad_outputs)
        return differentiable_once(grad_matrix, first_order_alone(ctx.method), matrix, *grad_outputs), None, None, None

    @staticmethod
    @in_full_precision
    def jvp(ctx: Any, tangent: Tensor, *_: Tensor | None) -> tuple[Tensor, Tensor]:
        if not ctx.method.is_derivative:
            raise NotImplementedError(first_order_alone(ctx.method))
        matrix, *decomposition = ctx.saved_tensors
        eigenvalues, eigenvectors = _Eigh.apply(_NotInForwardMode.apply(matrix), *decomposition, ctx.method)
        rotated = eigenvectors.mT @ ((tangent + tangent.mT) / 2) @ eigenvectors
        return rotated.diagonal(dim1=-2, dim2=-1), eigenvectors @ (rotated * ctx.method.reciprocal_gaps(eigenvalues))


class _NotInForwardMode(torch.autograd.Function):
    """The matrix unchanged, with an error in forward mode: within a forward-mode formula, torch ignores tangents silently."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        return matrix.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        raise NotImplementedError("eigh in forward mode can be differentiated again in backward mode only, as by jacrev")


def _gradient(
    method: Gapped, eigenvalues: Tensor, eigenvectors: Tensor, grad_eigenvalues: Tensor, grad_eigenvectors: Tensor
) -> Tensor:
    """dL/dA of dL/dlambda and dL/dV, the formula of `eigh`."""
    rotated, reciprocals = eigenvectors.mT @ grad_eigenvectors, method.reciprocal_gaps(eigenvalues)
    nothing = (rotated == 0) & reciprocals.isinf()
    turned = torch.where(nothing, 0.0, rotated * reciprocals) + torch.diag_embed(grad_eigenvalues)
    grad_matrix = eigenvectors @ turned @ eigenvectors.mT
    return (grad_matrix + grad_matrix.mT) / 2
