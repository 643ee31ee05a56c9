"""Matrices with a given spectrum, their gradients, and kernels at 60 digits; convolutions as dense matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import mpmath
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

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


@dataclass(frozen=True)
class Convolution:
    """The shape of a weight, and what else decides the operator."""

    shape: tuple[int, int, int, int]
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)

    @property
    def arguments(self) -> dict[str, object]:
        return {"input_size": self.size, "stride": self.stride, "groups": self.groups, "dilation": self.dilation}

    def weight(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    def circular(self, weight: Tensor) -> Tensor:
        """The matrix of the operator with circular padding: the images of an identity batch, tap by tap."""
        channels, images = weight.shape[1] * self.groups, 0.0
        inputs = torch.eye(channels * self.size[0] * self.size[1], dtype=weight.dtype).view(-1, channels, *self.size)
        for i, j in product(*map(range, weight.shape[2:])):
            moved = inputs.roll((-i * self.dilation[0], -j * self.dilation[1]), (2, 3))
            taken = moved[:, :, :: self.stride[0], :: self.stride[1]]
            images = images + conv2d(taken, weight[:, :, i : i + 1, j : j + 1], groups=self.groups)
        return images.flatten(1).T

    def zero_padded(self, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        """The matrix of what torch computes."""
        channels = weight.shape[1] * self.groups
        inputs = torch.eye(channels * self.size[0] * self.size[1], dtype=weight.dtype).view(-1, channels, *self.size)
        return conv2d(inputs, weight, None, self.stride, padding, self.dilation, self.groups).flatten(1).T


CONVOLUTIONS = {
    "plain": Convolution((4, 3, 3, 3), (6, 5)),
    "more outputs than inputs": Convolution((5, 2, 3, 3), (4, 4)),
    "stride 2": Convolution((3, 2, 3, 3), (8, 6), stride=(2, 2)),
    "stride and dilation of their own in each dimension": Convolution((3, 2, 3, 2), (8, 9), stride=(2, 3), dilation=(3, 2)),
    "groups": Convolution((6, 2, 3, 3), (4, 6), groups=3),
    "depthwise, strided": Convolution((4, 1, 3, 3), (6, 4), stride=(2, 2), groups=4),
    "even kernel": Convolution((3, 3, 2, 4), (5, 6)),
    "kernel larger than the map": Convolution((3, 2, 3, 3), (2, 2)),
    "kernel much larger than the map": Convolution((2, 2, 5, 7), (2, 2), stride=(2, 1), dilation=(1, 2)),
    "one pixel": Convolution((3, 4, 3, 3), (1, 1)),
    "kernel of one tap": Convolution((3, 4, 1, 1), (4, 6), stride=(2, 2)),
    "kernel of one row": Convolution((3, 2, 1, 3), (4, 5)),
    "linear": Convolution((4, 6, 1, 1), (1, 1)),
}


@pytest.fixture(params=CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def convolution(request) -> Convolution:
    return request.param


@pytest.fixture
def make_convolution() -> Callable[..., Convolution]:
    return Convolution
