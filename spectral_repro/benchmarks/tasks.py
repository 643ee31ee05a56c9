"""The matrix functions of the benchmark of gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import torch

from spectral_repro.benchmarks.spectra import leading
from spectral_repro.linalg.functions import InverseSqrt, One, Restricted, SpectralFunction, Sqrt
from spectral_repro.linalg.selection import Leading

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Task:
    """A function of d x d matrices whose largest eigenvalue is 1.

    Args:
        title: for tables.
        function: returns f for a size d.
        shift: returns the number added to the diagonal for a dtype.
        scalar: f of an mpmath number, for the largest eigenvalues; f is 0 on the others.
        kept: returns how many eigenvalues these are for a size d.
    """

    title: str
    function: Callable[[int], SpectralFunction]
    shift: Callable[[torch.dtype], float]
    scalar: Callable[[mpmath.mpf], mpmath.mpf]
    kept: Callable[[int], int] = lambda size: size


TASKS = {
    "whitening": Task(
        title="Whitening, (A + 1e-4 I)^(-1/2)",
        function=lambda size: InverseSqrt(),
        shift=lambda dtype: 1e-4,
        scalar=lambda x: 1 / mpmath.sqrt(x),
    ),
    "sqrt": Task(
        title="Square root, (A + 100 u I)^(1/2)",
        function=lambda size: Sqrt(),
        shift=lambda dtype: 100 * torch.finfo(dtype).eps,
        scalar=mpmath.sqrt,
    ),
    "pca": Task(
        title="PCA, the projector on the leading quarter of the eigenvectors",
        function=lambda size: Restricted(One(), Leading(leading(size))),
        shift=lambda dtype: 1e-4,
        scalar=lambda x: mpmath.mpf(1),
        kept=leading,
    ),
}
