"""Spectral layers for anyone's PyTorch code; no Hydra needed."""

from spectral_repro.layers.denoising import PCADenoising
from spectral_repro.layers.pooling import (
    AveragePooling,
    BilinearPooling,
    CompactBilinearPooling,
    CovariancePooling,
    ScalingEigenBranch,
)
from spectral_repro.layers.whitening import ZCAWhitening

__all__ = [
    "AveragePooling",
    "BilinearPooling",
    "CompactBilinearPooling",
    "CovariancePooling",
    "PCADenoising",
    "ScalingEigenBranch",
    "ZCAWhitening",
]
