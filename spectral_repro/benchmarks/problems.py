"""Random symmetric matrices with a known spectrum, and the exact value and gradient of functions of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.benchmarks.spectra import Spectrum
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class Problem:
    """A = Q diag(lambda) Q^T and G = dL/dF for L = sum(G o F(A)), all float64.

    Value and gradient are computed from lambda and Q without a decomposition, so they are exact up to the rounding of products.
    The methods get the rounded A, which adds about u times the condition number of the problem to the error of each of them.

    Args:
        eigenvalues: lambda (d,), descending.
        eigenvectors: Q (n, d, d), one for each of n matrices.
        grad_output: G (n, d, d), symmetric.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    grad_output: Tensor

    @property
    def size(self) -> int:
        return len(self.eigenvalues)

    @property
    def count(self) -> int:
        return len(self.eigenvectors)

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue."""
        return (self.eigenvalues[0] / self.eigenvalues[-1]).item()

    @property
    def gap(self) -> float:
        """The smallest (lambda_i - lambda_(i+1)) / lambda_i among positive lambda_i."""
        larger, smaller = self.eigenvalues[:-1], self.eigenvalues[1:]
        return ((larger - smaller) / larger)[larger > 0].min().item()

    @property
    def matrices(self) -> Tensor:
        """A (n, d, d)."""
        product = self.eigenvectors * self.eigenvalues @ self.eigenvectors.mT
        return (product + product.mT) / 2

    @property
    def features(self) -> Tensor:
        """X (n, d, d) with A = X X^T."""
        return self.eigenvectors * self.eigenvalues.sqrt()

    def value(self, function: SpectralFunction, shift: float) -> Tensor:
        """F = f(A + shift I), (n, d, d)."""
        return self.eigenvectors * function(self.eigenvalues + shift) @ self.eigenvectors.mT

    def gradient(self, function: SpectralFunction, shift: float) -> Tensor:
        """dL/dA (n, d, d), by divided differences (Daleckii-Krein)."""
        kernel = function.divided_differences(self.eigenvalues + shift)
        rotated = self.eigenvectors.mT @ self.grad_output @ self.eigenvectors
        return self.eigenvectors @ (kernel * rotated) @ self.eigenvectors.mT


def draw(spectrum: Spectrum, size: int, count: int, seed: int) -> Problem:
    """``count`` matrices with random eigenvectors and normal G; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, size, size, dtype=torch.float64, generator=generator)
    axes = torch.eye(size, dtype=torch.float64).expand(count, size, size)
    eigenvectors = torch.linalg.qr(first).Q if spectrum.rotated else axes
    return Problem(spectrum.eigenvalues(size), eigenvectors, (second + second.mT) / 2)
