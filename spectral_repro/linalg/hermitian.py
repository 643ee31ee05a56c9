"""Eigendecompositions as every module here takes them."""

import torch
from torch import Tensor


def decompose(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in descending order and eigenvectors of Hermitian matrices, as `torch.linalg.eigh` finds them.

    Batches of complex64 on CUDA are decomposed in complex128: in complex64 the eigenvectors that torch returns there may not be
    orthonormal (pytorch issue 192483).

    Args:
        matrix: A (..., d, d), symmetric or Hermitian (the lower triangle is read).

    Returns:
        lambda (..., d), real, and V (..., d, d), eigenvectors as columns: A = V diag(lambda) V^H.

    Raises:
        torch.linalg.LinAlgError: for a matrix with NaN or infinity, as far as `torch.linalg.eigh` notices.

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
