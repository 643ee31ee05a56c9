"""Symmetric and Hermitian matrices: checks, the identity, eigendecomposition, and removal of its rounding errors."""

import torch
from torch import Tensor

from spectral_repro.linalg.checks import dtype_name


def decompose(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in descending order and eigenvectors of Hermitian matrices, as `torch.linalg.eigh` finds them.

    Batches of complex64 on CUDA are decomposed in complex128: in complex64 the eigenvectors that torch returns there may not be
    orthonormal (pytorch issue 192483).

    Args:
        matrix: A (..., d, d), symmetric or Hermitian (the lower triangle is read).

    Returns:
        lambda (..., d), real, and V (..., d, d), eigenvectors as columns: A = V diag(lambda) V^H.

    Raises:
        torch.linalg.LinAlgError: where `torch.linalg.eigh` refuses a matrix with NaN or infinity.

    Example:
        >>> eigenvalues, eigenvectors = decompose(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
        >>> eigenvalues
        tensor([3., 2., 1.])
    """
    if matrix.dtype == torch.complex64 and matrix.device.type == "cuda":
        eigenvalues, eigenvectors = torch.linalg.eigh(matrix.to(torch.complex128))
        return eigenvalues.flip(-1).to(torch.float32), eigenvectors.flip(-1).to(torch.complex64)
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    return eigenvalues.flip(-1), eigenvectors.flip(-1)


def identity(matrix: Tensor) -> Tensor:
    """I (..., d, d) of the shape, dtype and device of the matrix."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand(matrix.shape)


def check_symmetric(matrix: Tensor) -> None:
    """Raises ValueError unless these are square matrices (..., d, d) in float32 or float64. Symmetry is not checked."""
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix: must be square, (..., d, d), not {tuple(matrix.shape)}")
    if matrix.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"matrix: must be symmetric in float32 or float64, not {dtype_name(matrix.dtype)}")


def without_negative_rounding(eigenvalues: Tensor) -> Tensor:
    """Eigenvalues (..., d) in descending order with those in [-10 d u lambda_1, 0) set to 0, u the rounding unit of the dtype.

    Rounding can make eigenvalues of a positive semidefinite matrix negative by that much. Those further below 0 are unchanged.
    """
    limit = 10 * eigenvalues.shape[-1] * torch.finfo(eigenvalues.dtype).eps
    rounding = (eigenvalues < 0) & (eigenvalues >= -limit * eigenvalues[..., :1])
    return eigenvalues.masked_fill(rounding, 0.0)
