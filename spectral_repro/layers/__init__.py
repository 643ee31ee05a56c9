"""Spectral layers for any PyTorch code; they need nothing but torch."""

from spectral_repro.layers import parametrizations
from spectral_repro.layers.conversion import Replacement, convert, export
from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.layers.denoising import PCADenoising
from spectral_repro.layers.pooling import (
    AveragePooling,
    BilinearPooling,
    CompactBilinearPooling,
    CovariancePooling,
    MaxPooling,
    Pooling,
    ScalingEigenBranch,
)
from spectral_repro.layers.recalibration import recalibrate
from spectral_repro.layers.soc import SOC, MinMax
from spectral_repro.layers.sott import SOTT
from spectral_repro.layers.tt import TTConv2d
from spectral_repro.layers.tucker import Tucker, orthogonal_penalty
from spectral_repro.layers.whitening import ZCAWhitening

__all__ = [
    "SOC",
    "SOTT",
    "AveragePooling",
    "BilinearPooling",
    "CompactBilinearPooling",
    "CovarianceNorm",
    "CovariancePooling",
    "MaxPooling",
    "MinMax",
    "PCADenoising",
    "Pooling",
    "Replacement",
    "ScalingEigenBranch",
    "TTConv2d",
    "Tucker",
    "ZCAWhitening",
    "convert",
    "export",
    "orthogonal_penalty",
    "parametrizations",
    "recalibrate",
]
