"""Functions of symmetric matrices, differentiable by any backward method."""

from typing import Any

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import differentiable_once, full_precision, in_full_precision
from spectral_repro.linalg.backward import Backward, Exact, Kernel
from spectral_repro.linalg.backward.method import check_method, first_order_alone
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, Power, SpectralFunction, Sqrt
from spectral_repro.linalg.hermitian import check_symmetric, decompose, without_negative_rounding

THIRD_ORDER = "a matrix function has no third derivatives"


def matrix_function(
    matrix: Tensor, function: SpectralFunction, backward: Backward = Exact(), shift: float = 0.0
) -> tuple[Tensor, Tensor]:
    """F(A) = f(A + s I) = V f(Lambda + s) V^T of symmetric matrices.

    The shift s is added after the decomposition, so that it does not drown the eigenvectors of an A much smaller than s. For
    functions that start at 0, such as the square root, eigenvalues that rounding made negative count as 0, so `sqrtm(X @ X.mT)`
    is finite for any rank. If A has truly negative eigenvalues, the root is NaN.

    Args:
        matrix: A (..., d, d), symmetric (the lower triangle is read), float32 or float64.
        function: f, see `spectral_repro.linalg.functions`.
        backward: the gradient method, see `spectral_repro.linalg.backward`.
        shift: s >= 0. If s > 0, A must be positive semidefinite, and shifted eigenvalues below s / 2, from rounding, are set to
            s / 2.

    Returns:
        F (..., d, d) and the shifted eigenvalues (..., d) in descending order, without gradient; NaN from a method that
        computes none. F has a gradient. `Exact` also has second derivatives and forward mode (`torch.func.jvp`); other methods
        raise NotImplementedError for these, unless autograd differentiates their steps (`AutogradSVD`,
        `NewtonSchulz(forward="newton_schulz")`). `torch.func.grad`, `vmap` and `jacrev` work with all.

    Raises:
        ValueError: for a matrix of another shape or dtype, a negative shift, and a method that cannot compute f.

    A matrix with NaN or infinity gives NaN or raises torch.linalg.LinAlgError, as `torch.linalg.eigh` does.

    Example:
        >>> root, eigenvalues = matrix_function(torch.diag(torch.tensor([1.0, 4.0])), Sqrt())
        >>> root
        tensor([[1., 0.],
                [0., 2.]])
    """
    check_symmetric(matrix)
    check_method("backward", backward)
    backward.check(function, shift)
    method = backward.current
    if not (isinstance(method, Kernel) and method.decomposes):
        with full_precision(matrix.device):
            return method.evaluate((matrix + matrix.mT) / 2, function, shift)  # so that the gradient is symmetric too
    eigenvalues, eigenvectors = decompose(matrix.detach())
    if shift > 0:
        eigenvalues = (eigenvalues + shift).clamp_min(shift / 2)
    elif function.from_zero:
        eigenvalues = without_negative_rounding(eigenvalues)
    apply = _MatrixFunction.apply if torch.compiler.is_compiling() else _WithForwardMode.apply
    result: Tensor = apply(matrix, eigenvalues, eigenvectors, method.applied(function), method)
    return result, eigenvalues


def sqrtm(matrix: Tensor, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """(A + s I)^(1/2), shapes and errors as `matrix_function`.

    Args:
        matrix: A (..., d, d), symmetric, float32 or float64.
        backward: the gradient method.
        shift: s >= 0.

    Returns:
        (A + s I)^(1/2) (..., d, d).

    Example:
        >>> sqrtm(torch.tensor([[2.0, 0.0], [0.0, 9.0]]))
        tensor([[1.4142, 0.0000],
                [0.0000, 3.0000]])
    """
    return matrix_function(matrix, Sqrt(), backward, shift)[0]


def inverse_sqrtm(matrix: Tensor, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """(A + s I)^(-1/2), shapes and errors as `matrix_function`.

    Args:
        matrix: A (..., d, d), symmetric, float32 or float64.
        backward: the gradient method.
        shift: s >= 0.

    Returns:
        (A + s I)^(-1/2) (..., d, d).

    Example:
        >>> inverse_sqrtm(torch.tensor([[4.0, 0.0], [0.0, 16.0]]))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.2500]])
    """
    return matrix_function(matrix, InverseSqrt(), backward, shift)[0]


def powerm(matrix: Tensor, exponent: float, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """(A + s I)^p of a positive definite argument, semidefinite for p > 0; shapes and errors as `matrix_function`.

    Args:
        matrix: A (..., d, d), symmetric, float32 or float64.
        exponent: p.
        backward: the gradient method.
        shift: s >= 0.

    Returns:
        (A + s I)^p (..., d, d).

    Example:
        >>> powerm(torch.tensor([[8.0, 0.0], [0.0, 27.0]]), exponent=1 / 3)
        tensor([[2., 0.],
                [0., 3.]])
    """
    return matrix_function(matrix, Power(exponent), backward, shift)[0]


def logm(matrix: Tensor, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """log(A + s I) of a positive definite argument, shapes and errors as `matrix_function`.

    Args:
        matrix: A (..., d, d), symmetric, float32 or float64.
        backward: the gradient method.
        shift: s >= 0.

    Returns:
        log(A + s I) (..., d, d).

    Example:
        >>> logm(torch.tensor([[1.0, 0.0], [0.0, 10.0]]))
        tensor([[0.0000, 0.0000],
                [0.0000, 2.3026]])
    """
    return matrix_function(matrix, Log(), backward, shift)[0]


def expm(matrix: Tensor, rate: float = 1.0, backward: Backward = Exact()) -> Tensor:
    """exp(c A), shapes and errors as `matrix_function`.

    Args:
        matrix: A (..., d, d), symmetric, float32 or float64.
        rate: c.
        backward: the gradient method.

    Returns:
        exp(c A) (..., d, d).

    Example:
        >>> expm(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), rate=2.0)
        tensor([[1.0000, 0.0000],
                [0.0000, 7.3891]])
    """
    return matrix_function(matrix, Exp(rate), backward)[0]


class _MatrixFunction(torch.autograd.Function):
    """F = V diag(f(lambda)) V^T from the decomposition of A, with the gradient with respect to A."""

    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(
        matrix: Tensor, eigenvalues: Tensor, eigenvectors: Tensor, function: SpectralFunction, method: Kernel
    ) -> Tensor:
        return (eigenvectors * function(eigenvalues).unsqueeze(-2)) @ eigenvectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.function, ctx.method = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_output = (grad_output + grad_output.mT) / 2
        matrix, eigenvalues, eigenvectors = ctx.saved_tensors
        grad_matrix = kernel_gradient(matrix, eigenvalues, eigenvectors, grad_output, ctx.function, ctx.method)
        return grad_matrix, None, None, None, None


class _WithForwardMode(_MatrixFunction):
    """A class of its own, because torch.compile accepts no function with a forward mode."""

    @staticmethod
    @in_full_precision
    def jvp(ctx: Any, tangent: Tensor, *_: Tensor | None) -> Tensor:
        if not ctx.method.is_derivative:
            raise NotImplementedError(first_order_alone(ctx.method))
        tangent = (tangent + tangent.mT) / 2
        change: Tensor = _KernelGradient.apply(*ctx.saved_tensors, tangent, ctx.function, ctx.method)
        return change


def kernel_gradient(
    matrix: Tensor, eigenvalues: Tensor, eigenvectors: Tensor, grad_output: Tensor, function: SpectralFunction, method: Kernel
) -> Tensor:
    """V (D o (V^T G V)) V^T of a symmetric G, differentiable with respect to A and G where the method is."""
    if torch.is_grad_enabled():
        grad_matrix: Tensor = _KernelGradient.apply(matrix, eigenvalues, eigenvectors, grad_output, function, method)
        return grad_matrix
    return method.gradient(function, eigenvalues, eigenvectors, grad_output)


class _KernelGradient(torch.autograd.Function):
    """The gradient of a matrix function as a function of A and of G = dL/dF, bilinear in G and H = dL/d(dL/dA) when derived:

    with Gv = V^T G V and Hv = V^T H V, the derivative with respect to G is the gradient of F for H, and that with respect to A

        V S V^T,    S_ij = sum_k f[lambda_i, lambda_k, lambda_j] (Gv_ik Hv_kj + Hv_ik Gv_kj).
    """

    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(
        matrix: Tensor,
        eigenvalues: Tensor,
        eigenvectors: Tensor,
        grad_output: Tensor,
        function: SpectralFunction,
        method: Kernel,
    ) -> Tensor:
        return method.gradient(function, eigenvalues, eigenvectors, grad_output)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.function, ctx.method = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad_grad_matrix: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.method.is_derivative:
            raise NotImplementedError(first_order_alone(ctx.method))
        matrix, eigenvalues, eigenvectors, grad_output = ctx.saved_tensors
        grad_grad_matrix = (grad_grad_matrix + grad_grad_matrix.mT) / 2
        grad_matrix = grad_grad_output = None
        if ctx.needs_input_grad[0]:
            grad_matrix = _second_order(ctx.function, matrix, eigenvalues, eigenvectors, grad_output, grad_grad_matrix)
        if ctx.needs_input_grad[3]:
            grad_grad_output = kernel_gradient(matrix, eigenvalues, eigenvectors, grad_grad_matrix, ctx.function, ctx.method)
        return grad_matrix, None, None, grad_grad_output, None, None

    @staticmethod
    @in_full_precision
    def jvp(ctx: Any, tangent: Tensor | None, _values: None, _vectors: None, grad_tangent: Tensor | None, *_: None) -> Tensor:
        if not ctx.method.is_derivative:
            raise NotImplementedError(first_order_alone(ctx.method))
        matrix, eigenvalues, eigenvectors, grad_output = ctx.saved_tensors
        change = torch.zeros_like(matrix)
        if tangent is not None:
            tangent = (tangent + tangent.mT) / 2
            change = change + _second_order(ctx.function, matrix, eigenvalues, eigenvectors, grad_output, tangent)
        if grad_tangent is not None:
            change = change + _KernelGradient.apply(matrix, eigenvalues, eigenvectors, grad_tangent, ctx.function, ctx.method)
        return change


def _second_order(
    function: SpectralFunction, matrix: Tensor, eigenvalues: Tensor, eigenvectors: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    """The second derivative of F at A in two symmetric directions."""
    with torch.no_grad():
        g, h = (eigenvectors.mT @ direction @ eigenvectors for direction in (first, second))
        differences = function.second_divided_differences(eigenvalues)
        half = (differences * g.unsqueeze(-1) * h.unsqueeze(-3)).sum(-2)
        result = eigenvectors @ (half + half.mT) @ eigenvectors.mT
    return differentiable_once(result, THIRD_ORDER, matrix, first, second)
