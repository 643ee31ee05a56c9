"""Gradients in which a series in the ratio of two eigenvalues replaces the reciprocal gap.

For lambda_i >= lambda_j and r = lambda_j / lambda_i, 1 / (lambda_i - lambda_j) = (1 + r + r^2 + ...) / lambda_i.
All need positive eigenvalues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from spectral_repro.linalg.backward.method import Gapped
from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class Taylor(Gapped):
    """D_ij = (f_i - f_j) S_K(r) / lambda_i, S_K = 1 + r + ... + r^K (song2021, SVD-Taylor).

    The exact D up to the factor 1 - r^(K+1): relative error 2.4e-5 at r = 0.9 and 0.36 at 0.99 for K = 100, and 0 instead of f'
    at a tie. The factor of f is at most (K + 1) / lambda_i: it overflows only where 1 / lambda_i nearly does.

    Args:
        degree: K.

    Raises:
        ValueError: if ``degree`` K is not a positive whole number.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=Taylor(100))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=Taylor(100))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.)
    """

    degree: int = 100

    def __post_init__(self) -> None:
        check_count("degree", self.degree)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        larger, values = eigenvalues.unsqueeze(-1), function(eigenvalues)
        series = geometric_sum(relative_gaps(eigenvalues), self.degree)
        return _symmetric((values.unsqueeze(-1) - values.unsqueeze(-2)) * series / larger, function.derivative(eigenvalues))

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        series = geometric_sum(relative_gaps(eigenvalues), self.degree) / eigenvalues.unsqueeze(-1)
        return _reciprocals(series, series)


@dataclass(frozen=True)
class PowerIteration(Gapped):
    """The gradient through K power iterations and deflation (wang2019, SVD-PI), all eigenvectors at once.

    With r = lambda_j / lambda_i <= 1 and S_K(r) = 1 + r + ... + r^K,

        D_ij = (f_i S_K(r) - f_j S_{K-1}(r)) / lambda_i    for lambda_i >= lambda_j,

    the geometric series of the exact 1 / (lambda_i - lambda_j) cut after K terms: bounded by (K + 1) / lambda_i per unit of f,
    equal to `Exact` up to r^K / (1 - r). Needs positive eigenvalues. For the eigenvectors themselves (`eigh`)
    K_ji = S_K(r) / lambda_i and K_ij = -S_{K-1}(r) / lambda_i.

    Args:
        iterations: K.

    Raises:
        ValueError: if ``iterations`` is not a positive whole number.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=PowerIteration(19))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=PowerIteration(19))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.5000)
    """

    iterations: int = 19

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        values, gaps = function(eigenvalues), relative_gaps(eigenvalues)
        longer, shorter = geometric_sum(gaps, self.iterations), geometric_sum(gaps, self.iterations - 1)
        upper = (values.unsqueeze(-1) * longer - values.unsqueeze(-2) * shorter) / eigenvalues.unsqueeze(-1)
        return _symmetric(upper, function.derivative(eigenvalues))

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        gaps, larger = relative_gaps(eigenvalues), eigenvalues.unsqueeze(-1)
        longer, shorter = geometric_sum(gaps, self.iterations), geometric_sum(gaps, self.iterations - 1)
        return _reciprocals(longer / larger, shorter / larger)


@dataclass(frozen=True)
class Pade(Gapped):
    """D_ij = (f_i - f_j) P(r) / (Q(r) lambda_i), P / Q the diagonal Pade approximant of 1 + r + r^2 + ... (song2021, SVD-Pade).

    The series is 1 / (1 - r), a rational function of degree [0/1]: every approximant of a higher degree is that function again,
    and the linear system for its coefficients is singular. The published recipe solves it anyway, with 20 digits and Taylor
    coefficients that have an error of 2.5e-21. The result is P = R and Q = (1 - r) R, where rounding determines the polynomial
    R: `PlainSVD` up to about r = 0.9999 (0.99 in float32), and beyond that a bound that rounding determines as well.

    Args:
        degree: of P and of Q.
        digits: of the arithmetic in which the coefficients are found.

    Raises:
        ValueError: if ``degree`` or ``digits`` is not a positive whole number, or rounding leaves the system singular: with
            degrees below about 24.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=Pade(50))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=Pade(50))[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.)
    """

    degree: int = 50
    digits: int = 20

    def __post_init__(self) -> None:
        check_count("degree", self.degree)
        check_count("digits", self.digits)
        published_pade(self.degree, self.digits)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        values, (numerator, denominator) = function(eigenvalues), self._quotient(eigenvalues)
        upper = (values.unsqueeze(-1) - values.unsqueeze(-2)) * numerator / denominator
        return _symmetric(upper, function.derivative(eigenvalues))

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        numerator, denominator = self._quotient(eigenvalues)
        return _reciprocals(numerator / denominator, numerator / denominator)

    def _quotient(self, eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
        """P(r) and Q(r) lambda_i above the diagonal."""
        larger, smaller = eigenvalues.unsqueeze(-1), eigenvalues.unsqueeze(-2)
        numerator, denominator = polynomials((smaller / larger).triu(1), published_pade(self.degree, self.digits))
        return numerator, denominator * larger


@cache
def published_pade(degree: int, digits: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients of P and Q, degree + 1 each, constant terms first, by the recipe of song2021's code."""
    import mpmath

    with mpmath.workdps(digits):
        series = mpmath.taylor(lambda x: 1 / (1 - x), 0, 2 * degree)
        try:
            numerator, denominator = mpmath.pade(series, degree, degree)
        except (ZeroDivisionError, TypeError) as error:
            raise ValueError(f"degree={degree}: its system is singular to {digits} digits; take a larger degree") from error
        return tuple(map(float, numerator)), tuple(map(float, denominator))


def polynomials(x: Tensor, coefficients: Sequence[Sequence[float]]) -> list[Tensor]:
    """Polynomials with coefficients of equal length, constant terms first, at x: by Horner's rule on blocks."""
    length = len(coefficients[0])
    block = max(1, round(length**0.5))
    powers, step, totals = [x**k for k in range(block)], x**block, []
    for polynomial in coefficients:
        total = torch.zeros_like(x)
        for start in reversed(range(0, length, block)):
            total = total * step
            for power, coefficient in zip(powers, polynomial[start : start + block], strict=False):
                total = total.add(power, alpha=coefficient)
        totals.append(total)
    return totals


def relative_gaps(eigenvalues: Tensor) -> Tensor:
    """(lambda_i - lambda_j) / lambda_i, (..., d, d)."""
    larger, smaller = eigenvalues.unsqueeze(-1), eigenvalues.unsqueeze(-2)
    return (larger - smaller) / larger


def geometric_sum(x: Tensor, degree: int) -> Tensor:
    """S_K(1 - x) = (1 - (1 - x)^(K+1)) / x without cancellation, K = ``degree``, 0 <= x <= 1; K + 1 at x = 0."""
    tie = x == 0
    series = -torch.expm1((degree + 1) * torch.log1p(-x)) / torch.where(tie, 1.0, x)
    return torch.where(tie, degree + 1.0, series)


def _symmetric(upper: Tensor, diagonal: Tensor) -> Tensor:
    """The symmetric matrix with the strict upper triangle of ``upper``."""
    upper = upper.triu(1)
    return upper + upper.mT + torch.diag_embed(diagonal)


def _reciprocals(longer: Tensor, shorter: Tensor) -> Tensor:
    """K_ji = longer_ij and K_ij = -shorter_ij for i < j, 0 on the diagonal."""
    return longer.triu(1).mT - shorter.triu(1)
