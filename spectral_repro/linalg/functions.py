"""Scalar functions f of eigenvalues, with what a gradient needs of them.

Every function answers three questions about eigenvalues of shape (..., d): its values, its derivative (both (..., d)) and
its divided differences f[a, b] = (f(a) - f(b)) / (a - b) of all pairs, (..., d, d), with f' where a = b.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import copysign
from typing import Protocol

import torch
from torch import Tensor


class SpectralFunction(Protocol):
    def __call__(self, eigenvalues: Tensor) -> Tensor: ...

    def derivative(self, eigenvalues: Tensor) -> Tensor: ...

    def divided_differences(self, eigenvalues: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class InverseSqrt:
    """f(x) = x^(-1/2) for x > 0; f[a, b] = -1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b))) has no subtraction."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.rsqrt()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return -0.5 * eigenvalues.rsqrt() / eigenvalues

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        root = eigenvalues.sqrt()
        a, b = root.unsqueeze(-1), root.unsqueeze(-2)
        return -1 / (a * b * (a + b))


@dataclass(frozen=True)
class Sqrt:
    """f(x) = x^(1/2) for x >= 0; f[a, b] = 1 / (sqrt(a) + sqrt(b)), infinite at a = b = 0."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.sqrt()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return 0.5 * eigenvalues.rsqrt()

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        root = eigenvalues.sqrt()
        return 1 / (root.unsqueeze(-1) + root.unsqueeze(-2))


@dataclass(frozen=True)
class Power:
    """f(x) = x^p for x > 0; for a <= b, f[a, b] = sign(p) max(f(a), f(b)) (1 - (a / b)^|p|) / (b - a)."""

    exponent: float

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues**self.exponent

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return self.exponent * eigenvalues ** (self.exponent - 1)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        smaller, gap = _smaller_and_gap(eigenvalues)
        size = abs(self.exponent)
        slope = _quotient(-torch.expm1(-size * torch.log1p(gap / smaller)), gap, size / smaller)
        return copysign(1, self.exponent) * _larger(self(eigenvalues)) * slope


@dataclass(frozen=True)
class Log:
    """f(x) = log x for x > 0; for a <= b, f[a, b] = log1p((b - a) / a) / (b - a)."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.log()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return 1 / eigenvalues

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        smaller, gap = _smaller_and_gap(eigenvalues)
        return _quotient(torch.log1p(gap / smaller), gap, 1 / smaller)


@dataclass(frozen=True)
class Exp:
    """f(x) = exp(c x), any x; for a <= b, f[a, b] = sign(c) max(f(a), f(b)) (1 - exp(-|c| (b - a))) / (b - a)."""

    rate: float = 1.0

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return (self.rate * eigenvalues).exp()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return self.rate * self(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        _, gap = _smaller_and_gap(eigenvalues)
        size = abs(self.rate)
        return copysign(1, self.rate) * _larger(self(eigenvalues)) * _quotient(-torch.expm1(-size * gap), gap, size)


@dataclass(frozen=True)
class Product:
    """f(x) = g(x) h(x); f[a, b] = g(a) h[a, b] + g[a, b] h(b)."""

    first: SpectralFunction
    second: SpectralFunction

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return self.first(eigenvalues) * self.second(eigenvalues)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        first, second = self.first, self.second
        return first(eigenvalues) * second.derivative(eigenvalues) + first.derivative(eigenvalues) * second(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        first, second = self.first, self.second
        of_second = first(eigenvalues).unsqueeze(-1) * second.divided_differences(eigenvalues)
        return of_second + first.divided_differences(eigenvalues) * second(eigenvalues).unsqueeze(-2)


@dataclass(frozen=True)
class One:
    """f(x) = 1: restricted to some eigenvalues, the projector on their eigenvectors."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return torch.ones_like(eigenvalues)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return torch.zeros_like(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.new_zeros(*eigenvalues.shape, eigenvalues.shape[-1])


@dataclass(frozen=True)
class Restricted:
    """``function`` on the eigenvalues that ``keep`` marks, zero on the others.

    ``keep`` maps eigenvalues (..., d) in descending order to a boolean mask of the same shape and counts as constant in the
    gradient. A kept a and a dropped b have f[a, b] = f(a) / (a - b), which no formula bounds: pairs closer than the
    float32 rounding unit times the largest eigenvalue are ties, whose subspace no gradient can tell apart, and get 0.
    """

    function: SpectralFunction
    keep: Callable[[Tensor], Tensor]

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return torch.where(self.keep(eigenvalues), self.function(eigenvalues), 0.0)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return torch.where(self.keep(eigenvalues), self.function.derivative(eigenvalues), 0.0)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        kept, values = self.keep(eigenvalues), self(eigenvalues)
        gap = eigenvalues.unsqueeze(-1) - eigenvalues.unsqueeze(-2)
        tied = gap.abs() <= torch.finfo(torch.float32).eps * eigenvalues[..., :1, None]
        across_cut = (values.unsqueeze(-1) - values.unsqueeze(-2)) / torch.where(tied, torch.inf, gap)
        both_kept = kept.unsqueeze(-1) & kept.unsqueeze(-2)
        one_kept = kept.unsqueeze(-1) ^ kept.unsqueeze(-2)
        return torch.where(both_kept, self.function.divided_differences(eigenvalues), torch.where(one_kept, across_cut, 0.0))


def _smaller_and_gap(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """min(a, b) and |a - b| of all pairs, each (..., d, d)."""
    a, b = eigenvalues.unsqueeze(-1), eigenvalues.unsqueeze(-2)
    return torch.minimum(a, b), (a - b).abs()


def _larger(values: Tensor) -> Tensor:
    """The larger value of every pair, (..., d, d)."""
    return torch.maximum(values.unsqueeze(-1), values.unsqueeze(-2))


def _quotient(numerator: Tensor, denominator: Tensor, limit: Tensor | float) -> Tensor:
    """numerator / denominator, ``limit`` where the denominator is 0."""
    zero = denominator == 0
    return torch.where(zero, limit, numerator / torch.where(zero, 1.0, denominator))
