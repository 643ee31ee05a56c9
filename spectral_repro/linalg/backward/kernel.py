"""Gradients that are one symmetric kernel."""

from abc import abstractmethod

import torch
from torch import Tensor

from spectral_repro.linalg.backward.decomposition import Decomposition
from spectral_repro.linalg.functions import SpectralFunction


class Kernel(Decomposition):
    @abstractmethod
    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """D, shape (..., d, d), for eigenvalues (..., d) in descending order."""

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, incoming: Tensor) -> Tensor:
        rotated = eigenvectors.mT @ incoming @ eigenvectors
        return eigenvectors @ (self.kernel(function, eigenvalues) * rotated) @ eigenvectors.mT


def symmetric(upper: Tensor, diagonal: Tensor) -> Tensor:
    """The symmetric matrix with the strict upper triangle of ``upper``."""
    upper = upper.triu(1)
    return upper + upper.mT + torch.diag_embed(diagonal)
