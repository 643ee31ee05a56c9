"""Scalar functions f of eigenvalues, with the derivatives and divided differences that gradients need.

A function has its values and its derivative at eigenvalues (..., d), both (..., d), and the divided differences that the
gradient of a matrix function consists of:

    f[a, b] = (f(a) - f(b)) / (a - b),    f[a, b, c] = (f[a, b] - f[b, c]) / (a - c),

of all pairs (..., d, d) and of all triples (..., d, d, d). At ties they are the limits f'(a) and f''(a) / 2. The formulas
subtract no nearly equal numbers, so neither ties nor tiny gaps cost accuracy.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import copysign, factorial

import torch
from torch import Tensor

from spectral_repro.linalg.checks import check_finite

NEAR = 0.1  # three eigenvalues within this part of the scale of f: f[a, b, c] by a Taylor polynomial about their mean
TERMS = 15  # of that polynomial: enough for float64


class SpectralFunction(ABC):
    """A function f of the eigenvalues. A function of your own needs the three abstract methods.

    Second derivatives also need `second_divided_differences`.

    Example:
        >>> class Square(SpectralFunction):
        ...     def __call__(self, eigenvalues):
        ...         return eigenvalues**2
        ...
        ...     def derivative(self, eigenvalues):
        ...         return 2 * eigenvalues
        ...
        ...     def divided_differences(self, eigenvalues):
        ...         return eigenvalues.unsqueeze(-1) + eigenvalues.unsqueeze(-2)
        >>> matrix_function(torch.eye(2) * 3, Square())[0]
        tensor([[9., 0.],
                [0., 9.]])
    """

    @property
    def from_zero(self) -> bool:
        """Whether f is defined for x >= 0 with f(0) = 0, like the square root; negative rounding errors then count as 0."""
        return False

    @abstractmethod
    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """f(x), (..., d)."""

    @abstractmethod
    def derivative(self, eigenvalues: Tensor) -> Tensor:
        """f'(x), (..., d)."""

    @abstractmethod
    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        """f[a, b] of all pairs, (..., d, d)."""

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        """f[a, b, c] of all triples, (..., d, d, d)."""
        raise NotImplementedError(f"{self} has no second derivative: it defines no second_divided_differences")

    def over_argument(self) -> "SpectralFunction":
        """x -> f(x) / x, of an f that starts `from_zero`."""
        raise NotImplementedError(f"{self} has no second derivative of features: it defines no over_argument")


@dataclass(frozen=True)
class InverseSqrt(SpectralFunction):
    """f(x) = x^(-1/2) for x > 0; f[a, b] = -1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b))) has no subtraction.

    Example:
        >>> InverseSqrt()(torch.tensor([4.0, 9.0]))
        tensor([0.5000, 0.3333])
    """

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.rsqrt()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return -0.5 * eigenvalues.rsqrt() / eigenvalues

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        root = eigenvalues.sqrt()
        a, b = root.unsqueeze(-1), root.unsqueeze(-2)
        return -(a * b * (a + b)).reciprocal()

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        a, b, c = _triples(eigenvalues.sqrt())
        return (a + b + c) / (a * b * c) / ((a + b) * (b + c) * (c + a))  # each product within the range of float32


@dataclass(frozen=True)
class Sqrt(SpectralFunction):
    """f(x) = x^(1/2) for x >= 0; f[a, b] = 1 / (sqrt(a) + sqrt(b)), infinite at a = b = 0.

    Example:
        >>> Sqrt()(torch.tensor([4.0, 9.0]))
        tensor([2., 3.])
    """

    @property
    def from_zero(self) -> bool:
        return True

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.sqrt()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return 0.5 * eigenvalues.rsqrt()

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        root = eigenvalues.sqrt()
        return 1 / (root.unsqueeze(-1) + root.unsqueeze(-2))

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        a, b, c = _triples(eigenvalues.sqrt())
        return -1 / ((a + b) * (b + c) * (c + a))

    def over_argument(self) -> SpectralFunction:
        return InverseSqrt()


@dataclass(frozen=True)
class Power(SpectralFunction):
    """f(x) = x^p for x > 0; for a <= b, f[a, b] = sign(p) max(f(a), f(b)) (1 - (a / b)^|p|) / (b - a).

    Args:
        exponent: p.

    Example:
        >>> Power(-1)(torch.tensor([4.0, 9.0]))
        tensor([0.2500, 0.1111])
    """

    exponent: float

    def __post_init__(self) -> None:
        check_finite("exponent", self.exponent)

    @property
    def from_zero(self) -> bool:
        return self.exponent > 0

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues**self.exponent

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return self.exponent * eigenvalues ** (self.exponent - 1)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        smaller, gap = _smaller_and_gap(eigenvalues)
        quotient = -torch.expm1(-abs(self.exponent) * torch.log1p(gap / smaller)) / torch.where(gap == 0, 1.0, gap)
        differences = copysign(1, self.exponent) * _larger(self(eigenvalues)) * quotient
        return torch.where(gap == 0, self.derivative(eigenvalues).unsqueeze(-1), differences)

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return _second_differences(self, eigenvalues, lambda smallest, widest: widest / smallest)

    def taylor(self, x: Tensor, degree: int) -> Tensor:
        coefficient = 1.0
        for k in range(degree):
            coefficient *= (self.exponent - k) / (k + 1)
        return coefficient * x ** (self.exponent - degree) if coefficient else torch.zeros_like(x)

    def over_argument(self) -> SpectralFunction:
        return Power(self.exponent - 1)


@dataclass(frozen=True)
class Log(SpectralFunction):
    """f(x) = log x for x > 0; for a <= b, f[a, b] = log1p((b - a) / a) / (b - a).

    Example:
        >>> Log()(torch.tensor([4.0, 9.0]))
        tensor([1.3863, 2.1972])
    """

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.log()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return 1 / eigenvalues

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        smaller, gap = _smaller_and_gap(eigenvalues)
        return _quotient(torch.log1p(gap / smaller), gap, 1 / smaller)

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return _second_differences(self, eigenvalues, lambda smallest, widest: widest / smallest)

    def taylor(self, x: Tensor, degree: int) -> Tensor:
        return -((-1 / x) ** degree) / degree


@dataclass(frozen=True)
class Exp(SpectralFunction):
    """f(x) = exp(c x), any x; for a <= b, f[a, b] = sign(c) max(f(a), f(b)) (1 - exp(-|c| (b - a))) / (b - a).

    Args:
        rate: c.

    Example:
        >>> Exp(0.5)(torch.tensor([4.0, 9.0]))
        tensor([ 7.3891, 90.0171])
    """

    rate: float = 1.0

    def __post_init__(self) -> None:
        check_finite("rate", self.rate)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return (self.rate * eigenvalues).exp()

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return self.rate * self(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        _, gap = _smaller_and_gap(eigenvalues)
        size = abs(self.rate)
        return copysign(1, self.rate) * _larger(self(eigenvalues)) * _quotient(-torch.expm1(-size * gap), gap, size)

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return _second_differences(self, eigenvalues, lambda smallest, widest: abs(self.rate) * widest)

    def taylor(self, x: Tensor, degree: int) -> Tensor:
        return self.rate**degree / factorial(degree) * self(x)


@dataclass(frozen=True)
class Product(SpectralFunction):
    """f(x) = g(x) h(x); f[a, b] = g(a) h[a, b] + g[a, b] h(b); the same rule holds for triples.

    Args:
        first, second: g and h.

    Example:
        >>> Product(Sqrt(), Log())(torch.tensor([4.0, 9.0]))
        tensor([2.7726, 6.5917])
    """

    first: SpectralFunction
    second: SpectralFunction

    @property
    def from_zero(self) -> bool:
        return self.first.from_zero or self.second.from_zero

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return self.first(eigenvalues) * self.second(eigenvalues)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        first, second = self.first, self.second
        return first(eigenvalues) * second.derivative(eigenvalues) + first.derivative(eigenvalues) * second(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        first, second = self.first, self.second
        a, b = first(eigenvalues).unsqueeze(-1), second(eigenvalues).unsqueeze(-2)
        return a * second.divided_differences(eigenvalues) + first.divided_differences(eigenvalues) * b

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        first, second = self.first, self.second
        a, c = first(eigenvalues)[..., :, None, None], second(eigenvalues)[..., None, None, :]
        pairs = first.divided_differences(eigenvalues).unsqueeze(-1) * second.divided_differences(eigenvalues).unsqueeze(-3)
        triples = first.second_divided_differences(eigenvalues) * c + a * second.second_divided_differences(eigenvalues)
        return triples + pairs

    def over_argument(self) -> SpectralFunction:
        if self.first.from_zero:
            return Product(self.first.over_argument(), self.second)
        return Product(self.first, self.second.over_argument())


@dataclass(frozen=True)
class One(SpectralFunction):
    """f(x) = 1: restricted to some eigenvalues, the projector on their eigenvectors.

    Example:
        >>> One()(torch.tensor([4.0, 9.0]))
        tensor([1., 1.])
    """

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return torch.ones_like(eigenvalues)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return torch.zeros_like(eigenvalues)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.new_zeros(*eigenvalues.shape, eigenvalues.shape[-1])

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.new_zeros(*eigenvalues.shape, eigenvalues.shape[-1], eigenvalues.shape[-1])


@dataclass(frozen=True)
class Restricted(SpectralFunction):
    """``function`` on the eigenvalues that ``keep`` marks, zero on the others.

    ``keep`` maps eigenvalues (..., d) in descending order to a boolean mask of the same shape; the gradient treats the mask as
    constant. For a kept a and a dropped b, f[a, b] = f(a) / (a - b) is unbounded: pairs closer than the float32 rounding unit
    times the largest eigenvalue count as ties and get 0.

    Args:
        function: f.
        keep: which eigenvalues count.

    Example:
        >>> Restricted(Sqrt(), lambda eigenvalues: eigenvalues > 5)(torch.tensor([4.0, 9.0]))
        tensor([0., 3.])
    """

    function: SpectralFunction
    keep: Callable[[Tensor], Tensor]

    @property
    def from_zero(self) -> bool:
        return self.function.from_zero

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        return torch.where(self.keep(eigenvalues), self.function(eigenvalues), 0.0)

    def derivative(self, eigenvalues: Tensor) -> Tensor:
        return torch.where(self.keep(eigenvalues), self.function.derivative(eigenvalues), 0.0)

    def divided_differences(self, eigenvalues: Tensor) -> Tensor:
        kept, values = self.keep(eigenvalues), self(eigenvalues)
        gap = eigenvalues.unsqueeze(-1) - eigenvalues.unsqueeze(-2)
        tied = gap.abs() <= self._tie(eigenvalues).unsqueeze(-1)
        across_cut = (values.unsqueeze(-1) - values.unsqueeze(-2)) / torch.where(tied, torch.inf, gap)
        both_kept = kept.unsqueeze(-1) & kept.unsqueeze(-2)
        one_kept = kept.unsqueeze(-1) ^ kept.unsqueeze(-2)
        return torch.where(both_kept, self.function.divided_differences(eigenvalues), torch.where(one_kept, across_cut, 0.0))

    def second_divided_differences(self, eigenvalues: Tensor) -> Tensor:
        kept = self.keep(eigenvalues)
        across_cut, widest = _over_the_widest_gap(self.divided_differences(eigenvalues), eigenvalues, kept)
        across_cut = torch.where(widest <= self._tie(eigenvalues)[..., None, None], 0.0, across_cut)
        a, b, c = _triples(kept)
        all_kept = self.function.second_divided_differences(eigenvalues)
        return torch.where(a & b & c, all_kept, torch.where(a | b | c, across_cut, 0.0))

    def over_argument(self) -> SpectralFunction:
        return Restricted(self.function.over_argument(), self.keep)

    def _tie(self, eigenvalues: Tensor) -> Tensor:
        return torch.finfo(torch.float32).eps * eigenvalues[..., :1]


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


def _triples(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers (..., d) as the first, second and third of all triples."""
    return values[..., :, None, None], values[..., None, :, None], values[..., None, None, :]


def _second_differences(
    function: "Log | Power | Exp", eigenvalues: Tensor, spread: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """f[a, b, c] of an f with Taylor coefficients, ``function.taylor(x, k)`` = f^(k)(x) / k!.

    Divided by the widest of the three gaps; where all three are close, the polynomial sum_k f^(k + 2)(m) / (k + 2)! h_k about
    their mean m, h_k the complete homogeneous polynomials of the differences from it: h_k = e_3 h_(k-3) - e_2 h_(k-2).

    Args:
        spread: maps the smallest of three eigenvalues and their widest gap to the gap relative to the scale on which f changes.
    """
    divided, widest = _over_the_widest_gap(function.divided_differences(eigenvalues), eigenvalues)
    a, b, c = _triples(eigenvalues)
    near = spread(torch.minimum(torch.minimum(a, b), c), widest) <= NEAR
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    pairs, product = a * b + b * c + c * a, a * b * c
    homogeneous = [torch.ones_like(mean), torch.zeros_like(mean), -pairs]
    for _ in range(TERMS - 3):
        homogeneous.append(product * homogeneous[-3] - pairs * homogeneous[-2])
    polynomial = sum(function.taylor(mean, k + 2) * term for k, term in enumerate(homogeneous))
    equal = function.taylor(eigenvalues, 2)[..., :, None, None]  # exact, also at 0
    return torch.where(widest == 0, equal, torch.where(near, polynomial, divided))


def _over_the_widest_gap(differences: Tensor, eigenvalues: Tensor, sides: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """f[a, b, c] = (f[a, b] - f[b, c]) / (a - c) with a and c the two furthest apart, and their distance, (..., d, d, d).

    Args:
        differences: f[a, b] of all pairs, (..., d, d).
        sides: a mask (..., d); only pairs of one in it and one outside count. The result is 0 where there is no such gap.
    """
    a, b, c = _triples(eigenvalues)
    ab, bc, ac = differences.unsqueeze(-1), differences.unsqueeze(-3), differences.unsqueeze(-2)
    gaps = torch.broadcast_tensors(a - b, b - c, a - c)
    changes = (ac - bc, ab - ac, ab - bc)
    widths = [gap.abs() for gap in gaps]
    if sides is not None:
        a, b, c = _triples(sides)
        widths = [width * counted for width, counted in zip(widths, (a ^ b, b ^ c, a ^ c), strict=True)]
    widest, quotient = torch.zeros_like(gaps[0]), torch.zeros_like(gaps[0])
    for gap, width, change in zip(gaps, widths, changes, strict=True):
        wider = width > widest
        quotient = torch.where(wider, change / torch.where(wider, gap, 1.0), quotient)
        widest = torch.where(wider, width, widest)
    return quotient, widest
