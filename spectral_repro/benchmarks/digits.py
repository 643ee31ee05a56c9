"""The exact gradient in 50 digits, to check the float64 reference."""

from collections.abc import Callable

import mpmath
import torch
from mpmath import mpf
from torch import Tensor

DIGITS = 50


def decompose(matrix: Tensor) -> tuple[list[mpf], mpmath.matrix]:
    """Eigenvalues in descending order and eigenvectors as columns of one symmetric matrix (d, d)."""
    with mpmath.workdps(DIGITS):
        values, vectors = mpmath.eigsy(mpmath.matrix(matrix.tolist()))
        order = sorted(range(len(values)), key=lambda i: -values[i])
        columns = [[vectors[row, i] for i in order] for row in range(len(values))]
        return [values[i] for i in order], mpmath.matrix(columns)


def gradient(
    decomposition: tuple[list[mpf], mpmath.matrix], grad_output: Tensor, f: Callable[[mpf], mpf], shift: float, kept: int
) -> Tensor:
    """dL/dA (d, d), float64, for f(A + shift I), where f is replaced by 0 on all but the ``kept`` largest eigenvalues.

    Divided differences are (f(a) - f(b)) / (a - b), or a central difference where a and b agree to 30 digits.
    """
    with mpmath.workdps(DIGITS):
        eigenvalues, vectors = decomposition
        shifted = [value + shift for value in eigenvalues]
        values = [f(x) if i < kept else mpf(0) for i, x in enumerate(shifted)]
        rotated = vectors.T * mpmath.matrix(grad_output.tolist()) * vectors
        for i, a in enumerate(shifted):
            for j, b in enumerate(shifted):
                if abs(a - b) > 1e-30 * abs(a):
                    rotated[i, j] *= (values[i] - values[j]) / (a - b)
                else:
                    rotated[i, j] *= _derivative(f, a) if i < kept else 0
        return torch.tensor((vectors * rotated * vectors.T).tolist(), dtype=torch.float64)


def _derivative(f: Callable[[mpf], mpf], x: mpf) -> mpf:
    step = x * mpf("1e-15")
    return (f(x + step) - f(x - step)) / (2 * step)
