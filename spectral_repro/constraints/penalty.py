"""Penalties added to the loss."""

from dataclasses import dataclass

from torch import Tensor, nn

from spectral_repro.bounds import NotNegative
from spectral_repro.layers.tucker import orthogonal_penalty


@dataclass(frozen=True)
class OrthogonalPenalty:
    """``orthogonal_k`` times `orthogonal_penalty`, which keeps the frames of TT layers near orthonormal (senderovich2022)."""

    orthogonal_k: NotNegative

    def __call__(self, network: nn.Module) -> Tensor:
        return self.orthogonal_k * orthogonal_penalty(network)
