"""The power-iteration gradient in song2021's code."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward import Kernel
from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class WholePowerIteration(Kernel):
    """The series of wang2019 for all eigenvectors at once, without the gradient of the eigenvalues (song2021's code, SVD-PI):

        dL/dA = sum_{k<K} (A / n)^k / n (I - V V^T) dL/dV V^T,    n = |A V|_F.

    For one eigenvector v, I - v v^T projects onto the tangent space of the unit sphere. For all of them V V^T = I, so the
    projector is 0, and only rounding errors pass. `spectral_repro.linalg.backward.PowerIteration` is the intended method.
    """

    iterations: int = 20

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """Zero: the value without rounding errors."""
        return eigenvalues.new_zeros(*eigenvalues.shape, eigenvalues.shape[-1])

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, grad_output: Tensor) -> Tensor:
        grad_eigenvectors = 2 * grad_output @ (eigenvectors * function(eigenvalues).unsqueeze(-2))
        projected = grad_eigenvectors - eigenvectors @ (eigenvectors.mT @ grad_eigenvectors)
        length = torch.linalg.vector_norm(eigenvalues, dim=-1, keepdim=True)
        series = sum((eigenvalues / length) ** k for k in range(self.iterations)) / length
        grad_matrix = (eigenvectors * series.unsqueeze(-2)) @ (eigenvectors.mT @ projected) @ eigenvectors.mT
        return (grad_matrix + grad_matrix.mT) / 2
