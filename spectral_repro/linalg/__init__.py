"""Pure functions of tensors; imports torch alone."""

from spectral_repro.linalg.conv_clip import clip_conv
from spectral_repro.linalg.conv_polar import orthogonalise_conv
from spectral_repro.linalg.conv_power import conv_power_iteration
from spectral_repro.linalg.conv_spectrum import conv_norm, conv_norm_bound, conv_singular_values
from spectral_repro.linalg.eigh import eigh
from spectral_repro.linalg.matrix_function import expm, inverse_sqrtm, logm, matrix_function, powerm, sqrtm
from spectral_repro.linalg.singular_values import clip_singular_values
from spectral_repro.linalg.tucker import tucker2

__all__ = [
    "clip_conv",
    "clip_singular_values",
    "conv_norm",
    "conv_norm_bound",
    "conv_power_iteration",
    "conv_singular_values",
    "eigh",
    "expm",
    "inverse_sqrtm",
    "logm",
    "matrix_function",
    "orthogonalise_conv",
    "powerm",
    "sqrtm",
    "tucker2",
]
