"""Which way to take a root, by device and size: the one place that decides."""

from torch import Tensor

from spectral_repro.linalg.functions import InverseSqrt, SpectralFunction, Sqrt

EIGH_UP_TO = 32  # rows and columns
ITERATIONS = 24  # an eigenvalue above 1e-8 of the trace has converged


def by_products(matrix: Tensor, function: SpectralFunction, shift: float) -> bool:
    """Does Newton-Schulz take the place of a decomposition?

    On CUDA for the square root and its inverse of more than 32 x 32 numbers, where a shift keeps the eigenvalues from zero.
    Measured on an H100 with torch 2.11 and CUDA 13 (`bench suite=cuda`): up to 32 x 32 `torch.linalg.eigh` takes a batch at
    once, in 0.3 to 0.5 ms; above, it goes through the matrices one by one, 12 ms for 16 of 64 x 64, 97 for 128 of them and 34
    for 16 of 256 x 256 in float64, where 12 Newton-Schulz iterations take 1.1 to 1.6 ms and are as accurate for matrices of
    good condition. Jacobi's rotations of whole batches took 90 to 900 ms.
    On a processor `eigh` stays: nothing was measured there that speaks against it.
    """
    root = isinstance(function, Sqrt | InverseSqrt)
    return matrix.device.type == "cuda" and matrix.shape[-1] > EIGH_UP_TO and root and shift > 0
