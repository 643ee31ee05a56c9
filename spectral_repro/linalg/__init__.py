"""Pure functions of tensors; imports torch alone."""

from spectral_repro.linalg.eigh import eigh
from spectral_repro.linalg.matrix_function import expm, inverse_sqrtm, logm, matrix_function, powerm, sqrtm

__all__ = ["eigh", "expm", "inverse_sqrtm", "logm", "matrix_function", "powerm", "sqrtm"]
