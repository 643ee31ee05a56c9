"""Automatic differentiation of torch's own decomposition."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward.decomposition import Backward
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class AutogradSVD(Backward):
    """What torch makes of F = V diag(f(sigma)) V^T with A + s I = U diag(sigma) V^T from `torch.linalg.svd` (wang2019's SVD).

    As `PlainSVD`, in the form of the published code: the shift comes before the decomposition, and an eigenvalue that rounding
    left negative counts with its absolute value.
    """

    @property
    def decomposes(self) -> bool:
        return False

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        with torch.autocast(matrix.device.type, enabled=False):
            shift_matrix = shift * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            shifted = (matrix + matrix.mT) / 2 + shift_matrix  # symmetric, so that its gradient is
            _, values, transposed = torch.linalg.svd(shifted)
            return (transposed.mT * function(values).unsqueeze(-2)) @ transposed, values.detach()
