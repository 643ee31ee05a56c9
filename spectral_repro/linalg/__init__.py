"""Pure functions of tensors; imports torch alone."""

from spectral_repro.linalg.matrix_function import matrix_function

__all__ = ["matrix_function"]
