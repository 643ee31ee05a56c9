"""Functions of the covariance of features, from the smaller of the covariance and the Gram matrix."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from spectral_repro.linalg.autograd import differentiable_once, in_full_precision
from spectral_repro.linalg.backward import Kernel
from spectral_repro.linalg.backward.method import first_order_alone
from spectral_repro.linalg.functions import Restricted, SpectralFunction
from spectral_repro.linalg.hermitian import decompose
from spectral_repro.linalg.matrix_function import matrix_function
from spectral_repro.linalg.roots import newton_schulz
from spectral_repro.linalg.selection import AboveRounding


def covariance(features: Tensor) -> Tensor:
    """X J X^T / P, J = I - 1 1^T / P: the covariance (..., C, C) of features X (..., C, P) over P positions."""
    centred = features - features.mean(-1, keepdim=True)
    return centred @ centred.mT / features.shape[-1]


def covariance_newton_schulz(features: Tensor, iterations: int) -> Tensor:
    """The root of the covariance by `newton_schulz`, from the smaller of the covariance and the Gram matrix.

    The iterations are polynomials, p(Y Y^T) = Y q(Y^T Y) Y^T for p(x) = x q(x): those for the root of the covariance Y Y^T are
    those for the inverse root of the Gram matrix Y^T Y between Y and Y^T. Both matrices have the same trace.

    Args:
        features: X (..., C, P).
        iterations: how many.

    Returns:
        The root (..., C, C), differentiable by autograd.

    Example:
        >>> covariance_newton_schulz(torch.randn(8, 64, 9), iterations=5).shape
        torch.Size([8, 64, 64])
    """
    channels, positions = features.shape[-2:]
    if positions >= channels:
        return newton_schulz(covariance(features), iterations)
    factor = _factor(features)
    root: Tensor = factor @ newton_schulz(factor.mT @ factor, iterations, inverse=True) @ factor.mT
    return root


def _factor(features: Tensor) -> Tensor:
    """Y = X J / P^(1/2) (..., C, P): the covariance is Y Y^T, the Gram matrix Y^T Y."""
    return (features - features.mean(-1, keepdim=True)) / math.sqrt(features.shape[-1])


def covariance_functions(
    features: Tensor, terms: Sequence[tuple[SpectralFunction, Kernel]], dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """f(covariance(X)) for every (f, method), f(0) = 0, all from one decomposition of a matrix of min(C, P) rows.

    With fewer positions than channels, the Gram matrix J X^T X J / P = U Lambda U^T has the same nonzero eigenvalues. Their
    eigenvectors are V = X J U (P Lambda)^(-1/2), and the covariance is never formed. Its null space N enters the gradient
    through the kernel between an eigenvalue and 0 and N N^T = I - V V^T: with G = sym(dL/dF), R = V^T G V, M = D o R,

        dL/dX = (2 / P) (V (M - R D_0) + G V D_0) V^T X J,    D_0 = diag(D(lambda, 0)).

    Eigenvalues below u max(C, P) max(lambda_max, u max mean^2) count as zero; u is the rounding unit of the dtype, and the two
    terms are the rounding errors of an eigenvalue and of constant features after centring. The kernel between two zeros is 0,
    so no gradient passes in directions that X does not have.

    Terms that are all `Exact` have second derivatives: those of f(X J X^T / P) with more positions than channels, otherwise
    those of Y h(Y^T Y) Y^T, Y = X J / P^(1/2), h(x) = f(x) / x. They exist as long as X keeps its rank. Where it does not, as
    at a dead channel, the root has no second derivative, and the result is not finite.

    Args:
        features: X (..., C, P), float32 or float64.
        terms: functions with f(0) = 0 and the methods of their gradients.
        dtype: of the results F (..., C, C) and of the matrix products with V in both passes. Default: that of X. In a narrower
            one, F and the gradient have an error of some roundings of their largest entries, while small eigenvalues keep the
            accuracy of X.

    Returns:
        F (..., C, C) for every term, with a gradient in backward mode; `torch.func.grad`, `vmap` and `jacrev` work too, and
        `torch.func.jvp` of terms that are all `Exact`.

    Raises:
        NotImplementedError: for second derivatives or forward mode with a method that has none.

    Example:
        >>> (root,) = covariance_functions(torch.randn(8, 64, 49), [(Sqrt(), Exact())])
        >>> root.shape
        torch.Size([8, 64, 64])
    """
    dtype = dtype or features.dtype
    if torch._C._are_functorch_transforms_active() and all(method.is_derivative for _, method in terms):
        return _composed(features, terms, dtype)
    mean = features.detach().mean(-1, keepdim=True)
    centred = _Centred.apply(features, mean)
    eigenvalues, vectors, basis = _decomposed(centred.detach(), mean)
    output_basis = None if dtype == features.dtype else (vectors if basis is None else basis).to(dtype)
    results: tuple[Tensor, ...] = _OfFeatures.apply(centred, eigenvalues, vectors, basis, output_basis, tuple(terms))
    return results


def _decomposed(centred: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The eigenvalues, the eigenvectors of the smaller matrix, and those of the covariance if it is the larger one."""
    channels, positions = centred.shape[-2:]
    by_gram = positions < channels
    eigenvalues, vectors = decompose(centred.mT @ centred if by_gram else centred @ centred.mT)
    eigenvalues = eigenvalues / positions
    unit = torch.finfo(centred.dtype).eps
    scale = torch.maximum(eigenvalues[..., 0], unit * mean.square().amax((-2, -1)))
    null = eigenvalues <= unit * max(channels, positions) * scale.unsqueeze(-1)
    eigenvalues = torch.where(null, 0.0, eigenvalues)
    if not by_gram:
        return eigenvalues, vectors, None
    lengths = torch.where(null, torch.inf, (positions * eigenvalues).sqrt())
    return eigenvalues, vectors, centred @ (vectors / lengths.unsqueeze(-2))


class _Centred(torch.autograd.Function):
    """X - mean. The gradient from `_OfFeatures` is centred already, which saves passes over the features."""

    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(features: Tensor, mean: Tensor) -> Tensor:
        return features - mean

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output - grad_output.mean(-1, keepdim=True) if torch.is_grad_enabled() else grad_output, None


class _OfFeatures(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(
        centred: Tensor,
        eigenvalues: Tensor,
        vectors: Tensor,
        basis: Tensor | None,
        output_basis: Tensor | None,
        terms: tuple[tuple[SpectralFunction, Kernel], ...],
    ) -> tuple[Tensor, ...]:
        basis = vectors if basis is None else basis
        output_basis = basis if output_basis is None else output_basis
        results = []
        for function, method in terms:
            values = method.applied(function)(eigenvalues).to(output_basis.dtype)
            results.append((output_basis * values.unsqueeze(-2)) @ output_basis.mT)
        return tuple(results)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.terms = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        centred, eigenvalues, vectors, basis, output_basis = ctx.saved_tensors
        approximate = [method for _, method in ctx.terms if not method.is_derivative]
        if torch.is_grad_enabled() and not approximate:
            _, vjp = torch.func.vjp(lambda x: _composed(x, ctx.terms, grad_outputs[0].dtype), centred)[:2]
            return *vjp(grad_outputs), None, None, None, None, None
        with torch.no_grad():
            grad_centred = _gradient(centred, eigenvalues, vectors, basis, output_basis, ctx.terms, grad_outputs)
        if torch.is_grad_enabled():
            grad_centred = differentiable_once(grad_centred, first_order_alone(approximate[0]), centred, *grad_outputs)
        return grad_centred, None, None, None, None, None


def _gradient(
    centred: Tensor,
    eigenvalues: Tensor,
    vectors: Tensor,
    basis: Tensor | None,
    output_basis: Tensor | None,
    terms: Sequence[tuple[SpectralFunction, Kernel]],
    grad_outputs: Sequence[Tensor],
) -> Tensor:
    """dL/dX of dL/dF for every term, the formula of `covariance_functions`."""
    positions, count = centred.shape[-1], eigenvalues.shape[-1]
    by_gram = positions < centred.shape[-2]
    basis = vectors if basis is None else basis
    output_basis = basis if output_basis is None else output_basis
    with_zero = pad(eigenvalues, (0, 1)) if by_gram else eigenvalues
    null = eigenvalues == 0
    between_zeros = null.unsqueeze(-1) & null.unsqueeze(-2)
    products = []
    for (function, method), grad_output in zip(terms, grad_outputs, strict=True):
        image = grad_output @ output_basis
        if by_gram:
            image += grad_output.mT @ output_basis
        image = image.to(basis.dtype)
        rotated = basis.mT @ image
        rotated = rotated / 2 if by_gram else (rotated + rotated.mT) / 2
        inner = method.inner(method.applied(function), with_zero, _bordered(rotated) if by_gram else rotated)
        among = torch.where(between_zeros, 0.0, inner[..., :count, :count])
        if by_gram:
            with_null = torch.where(null, 0.0, inner[..., :count, count]).unsqueeze(-2)
            products.append((basis @ (among - rotated * with_null)).addcmul_(image, with_null, value=0.5))
        else:
            products.append(basis @ among)
    if by_gram:
        coordinates = 2 * (eigenvalues / positions).sqrt().unsqueeze(-1) * vectors.mT
    else:
        coordinates = (basis * (2 / positions)).mT @ centred
    return reduce(torch.add, products) @ coordinates


def _bordered(rotated: Tensor) -> Tensor:
    """Adds a row and a column of ones with 0 in the corner; multiplied by the kernel they become D(lambda, 0)."""
    bordered = pad(rotated, (0, 1, 0, 1), value=1.0)
    bordered[..., -1, -1] = 0
    return bordered


def _composed(features: Tensor, terms: Sequence[tuple[SpectralFunction, Kernel]], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The same functions, composed of operations that are differentiable twice."""
    channels, positions = features.shape[-2:]
    centred = _factor(features)
    if positions > channels:
        matrix = centred @ centred.mT
        return tuple(matrix_function(matrix, function, method)[0].to(dtype) for function, method in terms)
    gram, kept = centred.mT @ centred, AboveRounding(torch.finfo(centred.dtype).eps * channels)
    return tuple(
        (centred @ matrix_function(gram, Restricted(function.over_argument(), kept), method)[0] @ centred.mT).to(dtype)
        for function, method in terms
    )
