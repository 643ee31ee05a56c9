"""Gradients of the square root and the inverse square root by iterations of matrix products."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import differentiable_once, in_full_precision
from spectral_repro.linalg.backward.method import Kernel, first_order_alone
from spectral_repro.linalg.checks import check_choice, check_count
from spectral_repro.linalg.functions import InverseSqrt, SpectralFunction, Sqrt
from spectral_repro.linalg.hermitian import identity
from spectral_repro.linalg.roots import mpa, mtp, newton_schulz

ROOTS = {"mpa": mpa, "mtp": mtp, "newton_schulz": newton_schulz}


@dataclass(frozen=True)
class NewtonSchulz(Kernel):
    """The derivative of K Newton-Schulz iterations (`newton_schulz`), for the square root and its inverse.

    With ``forward`` "newton_schulz", F is the result of the iterations (iSQRT-COV); with "eigh" F is exact, and only the
    gradient is that of the iterations (song2021, SVD-Newton). In the eigenbasis an iteration acts on every eigenvalue by
    itself: F = sqrt(s) h(A / s), s = tr A, and the derivative is the kernel of divided differences h[a_i, a_j], carried from
    step to step by the product rule, and that of s. It tends to `Exact` for eigenvalues above about (4/9)^K s, and is smaller
    below; always bounded, and 0 for the exact root of a zero matrix.

    Args:
        iterations: K.
        forward: how F is computed, "eigh" or "newton_schulz".

    Raises:
        ValueError: if ``iterations`` is not a positive whole number, ``forward`` is unknown, or F is another function.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=NewtonSchulz(10))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=NewtonSchulz(10))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.2500)
    """

    roots_only: ClassVar[bool] = True

    iterations: int = 10
    forward: Literal["eigh", "newton_schulz"] = "eigh"

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)
        check_choice("forward", self.forward, "eigh", "newton_schulz")

    @property
    def decomposes(self) -> bool:
        return self.forward == "eigh"

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        shifted = matrix + shift * identity(matrix)
        return newton_schulz(shifted, self.iterations, isinstance(function, InverseSqrt)), _unknown(matrix)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """The kernel of sqrt(s) h(A / s) with s held constant."""
        _, _, differences, scale = self._scaled(function, eigenvalues)
        return scale.unsqueeze(-1) * differences

    def inner(self, function: SpectralFunction, eigenvalues: Tensor, rotated: Tensor) -> Tensor:
        scaled, values, differences, scale = self._scaled(function, eigenvalues)
        power = 0.5 if isinstance(function, Sqrt) else -0.5
        derivatives = differences.diagonal(dim1=-2, dim2=-1)
        grad_trace = (rotated.diagonal(dim1=-2, dim2=-1) * (power * values - derivatives * scaled)).sum(-1, keepdim=True)
        return scale.unsqueeze(-1) * (differences * rotated + torch.diag_embed(grad_trace.expand_as(scaled)))

    def _scaled(self, function: SpectralFunction, eigenvalues: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a = lambda / s, h(a), the divided differences of h, and the factor from them to those of F."""
        trace = _or_infinite(eigenvalues.sum(-1, keepdim=True))
        scaled = eigenvalues / trace
        (y, dy), (z, dz) = self._divided_differences(scaled)
        if isinstance(function, Sqrt):
            return scaled, y, (dy + dy.mT) / 2, trace.rsqrt()
        return scaled, z, (dz + dz.mT) / 2, trace.rsqrt() / trace

    def _divided_differences(self, a: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Y and Z as scalar functions of the eigenvalues a: their values (..., d) and divided differences (..., d, d)."""
        y, z = a, torch.ones_like(a)
        dy, dz = (a.new_full((*a.shape, a.shape[-1]), value) for value in (1.0, 0.0))
        for _ in range(self.iterations):
            t, dt = (3 - z * y) / 2, -_product_rule(z, dz, y, dy) / 2
            y, dy, z, dz = y * t, _product_rule(y, dy, t, dt), t * z, _product_rule(t, dt, z, dz)
        return (y, dy), (z, dz)


def _product_rule(f: Tensor, df: Tensor, g: Tensor, dg: Tensor) -> Tensor:
    """(f g)[a_i, a_j] = f_i g[a_i, a_j] + f[a_i, a_j] g_j."""
    return f.unsqueeze(-1) * dg + df * g.unsqueeze(-2)


@dataclass(frozen=True)
class Lyapunov(Kernel):
    """The gradient of the square root from its Lyapunov equation R X + X R = G, R = A^(1/2) (Song et al. 2022).

    The equation is solved by K Newton-Schulz steps for the matrix sign, from B = R / |R|_F and C = G / |R|_F:

        C <- (3 C - B^2 C + B C B - C B^2) / 2,   B <- (3 B - B^3) / 2;    X ~ C / 2.

    In the eigenbasis, with b_i = sqrt(lambda_i) / |R|_F, that is D_ij = prod_k (3 - b_i^2 + b_i b_j - b_j^2) / 2, over 2 |R|_F:
    `Exact` as K grows, smaller where b_i + b_j is below about (2/3)^K, bounded by (3/2)^K / (2 |R|_F), and 0 for the exact root
    of a zero matrix. For the inverse root, G is replaced by -F G F.

    Args:
        iterations: K.
        forward: "eigh" is exact; "mpa", "mtp" and "newton_schulz" are those of `spectral_repro.linalg.roots`, without any
            decomposition: the iteration then runs on their results.
        order: degree of mpa or mtp, iterations of newton_schulz; None: their defaults.

    Raises:
        ValueError: if ``iterations`` or ``order`` is not a positive whole number, ``forward`` unknown, or F another function.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=Lyapunov(8))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=Lyapunov(8))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.2500)
    """

    roots_only: ClassVar[bool] = True

    iterations: int = 8
    forward: Literal["eigh", "mpa", "mtp", "newton_schulz"] = "eigh"
    order: int | None = None

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)
        if self.order is not None:
            check_count("order", self.order)
        check_choice("forward", self.forward, "eigh", *ROOTS)

    @property
    def decomposes(self) -> bool:
        return self.forward == "eigh"

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        shifted = matrix + shift * identity(matrix)
        return _ByLyapunov.apply(shifted, self, isinstance(function, InverseSqrt)), _unknown(matrix)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        norm = _or_infinite(eigenvalues.sum(-1, keepdim=True).sqrt())
        b = eigenvalues.sqrt() / norm
        kernel = (0.5 / norm).unsqueeze(-1).expand(*b.shape, b.shape[-1])
        for _ in range(self.iterations):
            i, j = b.unsqueeze(-1), b.unsqueeze(-2)
            kernel = kernel * (3 - i**2 + i * j - j**2) / 2
            b = (3 * b - b**3) / 2
        if isinstance(function, Sqrt):
            return kernel
        values = function(eigenvalues)
        return -values.unsqueeze(-1) * kernel * values.unsqueeze(-2)


class _ByLyapunov(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    @in_full_precision
    def forward(matrix: Tensor, method: Lyapunov, inverse: bool) -> Tensor:
        root = ROOTS[method.forward]
        return root(matrix, inverse=inverse) if method.order is None else root(matrix, method.order, inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        matrix, ctx.method, ctx.inverse = inputs
        ctx.save_for_backward(matrix, output)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        matrix, result = ctx.saved_tensors
        with torch.no_grad():
            grad_matrix = _lyapunov(matrix, result, grad_output, ctx.inverse, ctx.method.iterations)
        if torch.is_grad_enabled():
            grad_matrix = differentiable_once(grad_matrix, first_order_alone(ctx.method), matrix, grad_output)
        return grad_matrix, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        raise NotImplementedError(first_order_alone(ctx.method))


def _lyapunov(matrix: Tensor, result: Tensor, grad_output: Tensor, inverse: bool, iterations: int) -> Tensor:
    """The gradient of the root ``result`` of the matrix, or of its inverse root, by the iteration of `Lyapunov`."""
    grad_output = (grad_output + grad_output.mT) / 2
    if inverse:
        root, grad_output = matrix @ result, -result @ grad_output @ result
    else:
        root = result
    norm: Tensor = torch.linalg.matrix_norm(root, keepdim=True).clamp_min(torch.finfo(root.dtype).tiny ** 0.5)
    b, c = root / norm, grad_output / norm
    for _ in range(iterations):
        square = b @ b
        c = (3 * c - square @ c + b @ c @ b - c @ square) / 2
        b = (3 * b - square @ b) / 2
    return (c + c.mT) / 4


def _or_infinite(scale: Tensor) -> Tensor:
    """The scale of a spectrum, infinite if all eigenvalues are 0, so that no gradient passes."""
    return torch.where(scale == 0, torch.inf, scale)


def _unknown(matrix: Tensor) -> Tensor:
    return matrix.new_full(matrix.shape[:-1], torch.nan)
