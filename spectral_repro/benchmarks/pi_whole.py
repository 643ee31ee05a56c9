"""The power-iteration gradient as song2021 published it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward import Kernel
from spectral_repro.linalg.backward.method import check_count
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class WholePowerIteration(Kernel):
    """The series of wang2019 applied to all eigenvectors at once, without eigenvalues' gradient (song2021's code, SVD-PI):

        dL/dA = sum_{k<K} (A / n)^k / n (I - V V^T) dL/dV V^T,    n = |A V|_F.

    For one eigenvector v, I - v v^T takes off what leaves the unit sphere. For all of them V V^T = I, and the projector is 0:
    no gradient passes but rounding. `spectral_repro.linalg.backward.PowerIteration` is the method that was meant.
    """

    iterations: int = 20

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """Zero: the value without rounding errors."""
        return eigenvalues.new_zeros(*eigenvalues.shape, eigenvalues.shape[-1])

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, incoming: Tensor) -> Tensor:
        of_eigenvectors = 2 * incoming @ (eigenvectors * function(eigenvalues).unsqueeze(-2))
        projected = of_eigenvectors - eigenvectors @ (eigenvectors.mT @ of_eigenvectors)
        length = torch.linalg.vector_norm(eigenvalues, dim=-1, keepdim=True)
        series = sum((eigenvalues / length) ** k for k in range(self.iterations)) / length
        slope = (eigenvectors * series.unsqueeze(-2)) @ (eigenvectors.mT @ projected) @ eigenvectors.mT
        return (slope + slope.mT) / 2
