"""Matrices with a given spectrum, their gradients, and kernels at 60 digits."""

from collections.abc import Callable
from itertools import combinations_with_replacement

import mpmath
import pytest
import torch
from torch import Tensor

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, One, Power, SpectralFunction, Sqrt

SPECTRA = {
    "separated": (4.0, 3.0, 2.0, 0.7, 0.3),
    "close": (4.0, 3.99, 2.0, 1.999, 0.3),
    "tied": (2.0, 2.0, 2.0, 0.5, 0.5),
    "condition-1e14": (1.0, 1e-3, 1e-6, 1e-10, 1e-14),
    "rank-deficient": (3.0, 2.0, 1.0, 0.0, 0.0),
    "indefinite": (3.0, 0.5, 0.0, -0.5, -2.0),
}

IN_MPMATH = {
    InverseSqrt(): lambda x: 1 / mpmath.sqrt(x),
    Sqrt(): mpmath.sqrt,
    Power(0.5): mpmath.sqrt,
    Power(-0.5): lambda x: 1 / mpmath.sqrt(x),
    Power(0.25): lambda x: mpmath.sqrt(mpmath.sqrt(x)),
    Power(2.0): lambda x: x**2,
    Power(-1.5): lambda x: 1 / mpmath.sqrt(x) ** 3,
    Power(0.0): lambda x: mpmath.mpf(1),
    Log(): mpmath.log,
    Exp(): mpmath.exp,
    Exp(-1.0): lambda x: mpmath.exp(-x),
    Exp(0.5): lambda x: mpmath.exp(x / 2),
    One(): lambda x: mpmath.mpf(1),
}


@pytest.fixture
def spectra() -> dict[str, tuple[float, ...]]:
    """Five eigenvalues in descending order each."""
    return SPECTRA


@pytest.fixture
def spectrum(request: pytest.FixtureRequest) -> tuple[float, ...]:
    """One of the spectra, by name: parametrize it indirectly."""
    return SPECTRA[request.param]


@pytest.fixture
def symmetric() -> Callable[..., Tensor]:
    """Makes a float64 symmetric matrix with the given eigenvalues and random eigenvectors."""

    def make(eigenvalues: tuple[float, ...], seed: int = 0) -> Tensor:
        generator, d = torch.Generator().manual_seed(seed), len(eigenvalues)
        basis = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
        matrix = basis * torch.tensor(eigenvalues, dtype=torch.float64) @ basis.T
        return (matrix + matrix.T) / 2

    return make


@pytest.fixture
def random_gradient() -> Callable[..., Tensor]:
    """Makes a random float64 (d, d), not symmetric."""

    def make(d: int, seed: int = 1) -> Tensor:
        return torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def matrix_gradient() -> Callable[..., Tensor]:
    """dL/dA of F(A) for an incoming gradient dL/dF."""

    def of(matrix: Tensor, function: SpectralFunction, backward: object, gradient: Tensor, shift: float = 0.0) -> Tensor:
        matrix = matrix.clone().requires_grad_()
        matrix_function(matrix, function, backward, shift)[0].backward(gradient)
        return matrix.grad

    return of


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """The largest difference over the largest entry of the reference."""

    def of(value: Tensor, reference: Tensor) -> float:
        return ((value - reference).abs().max() / reference.abs().max()).item()

    return of


@pytest.fixture
def in_mpmath() -> Callable[[SpectralFunction], Callable]:
    """The same function of an mpmath number."""
    return IN_MPMATH.__getitem__


@pytest.fixture
def pairwise() -> Callable[..., Tensor]:
    """The symmetric (d, d) float64 of a formula of two descending eigenvalues (d,), the larger first, computed at 60 digits."""

    def of(eigenvalues: Tensor, formula: Callable) -> Tensor:
        values = sorted(map(mpmath.mpf, eigenvalues.tolist()), reverse=True)
        kernel = torch.empty(len(values), len(values), dtype=torch.float64)
        with mpmath.workdps(60):
            for (i, larger), (j, smaller) in combinations_with_replacement(enumerate(values), 2):
                kernel[i, j] = kernel[j, i] = float(formula(larger, smaller))
        return kernel

    return of


@pytest.fixture
def exact_kernel(pairwise) -> Callable[..., Tensor]:
    """Divided differences f[a, b] of eigenvalues (d,), at 60 digits; f' where a = b."""

    def of(eigenvalues: Tensor, function: SpectralFunction) -> Tensor:
        f = IN_MPMATH[function]
        return pairwise(eigenvalues, lambda a, b: (f(a) - f(b)) / (a - b) if a > b else mpmath.diff(f, a))

    return of
