"""Spectral layers for anyone's PyTorch code; no Hydra needed."""

from spectral_repro.layers.denoising import PCADenoising
from spectral_repro.layers.whitening import ZCAWhitening

__all__ = ["PCADenoising", "ZCAWhitening"]
