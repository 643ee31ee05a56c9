"""The derivative itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward.choice import ITERATIONS, by_products
from spectral_repro.linalg.backward.decomposition import Gapped
from spectral_repro.linalg.backward.iterations import Lyapunov
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class Exact(Gapped):
    """The derivative itself (Daleckii-Krein): D_ij = f[lambda_i, lambda_j], the divided difference.

    Written without subtraction where f allows it, so ties and tiny gaps cost no accuracy. For a smooth f bounded by max |f'|.
    The eigenvectors themselves have K_ij = 1 / (lambda_j - lambda_i), which has no bound; at a tie, where they have no
    derivative, it is 0.

    Where `by_products` says so, a root and its gradient come from Newton-Schulz iterations run until they have converged,
    without eigenvalues.
    """

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        if by_products(matrix, function, shift):
            return Lyapunov(ITERATIONS, "newton_schulz", ITERATIONS).evaluate(matrix, function, shift)
        return super().evaluate(matrix, function, shift)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        return function.divided_differences(eigenvalues)

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
        return 1 / torch.where(gaps == 0, torch.inf, gaps)
