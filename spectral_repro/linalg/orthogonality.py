"""How far columns are from being orthogonal and of equal length."""

import torch
from torch import Tensor


def normalised_gram(columns: Tensor) -> Tensor:
    """H^T H / ||H||_F^2 of columns H (..., d, n): (..., n, n) of trace 1, in H's dtype; NaN for H = 0."""
    gram = columns.mT @ columns
    return gram / gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


def orthogonality_gap(columns: Tensor) -> Tensor:
    """|| H^T H / ||H||_F^2 - I/n ||_F of columns H (..., d, n): (...), in H's dtype; NaN for H = 0.

    0 for orthogonal columns of equal length, sqrt(1 - 1/n) for parallel columns (daneshmand2021, section 3).
    """
    gram = normalised_gram(columns)
    n = gram.shape[-1]
    gap: Tensor = torch.linalg.matrix_norm(gram - torch.eye(n, dtype=gram.dtype, device=gram.device) / n)
    return gap


def singular_value_gap(gram: Tensor) -> Tensor:
    """From the Gram matrix H^T H (..., k, k): || s / ||s|| - 1 / sqrt(k) ||, s the k singular values of H, (...) in its dtype.

    0 for orthogonal columns of equal length, sqrt(2 - 2 / sqrt(k)) for parallel columns; NaN for H = 0 and where H^T H is not
    finite. Its error is the square root of the rounding error, so use float64 (daneshmand2021, the published code of Figure 3).
    """
    finite = gram.isfinite().all((-2, -1), keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(gram.where(finite, 0)).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    gap: Tensor = torch.linalg.vector_norm(shares.sqrt() - gram.shape[-1] ** -0.5, dim=-1)
    return gap


def abs_cosine_similarity(columns: Tensor) -> Tensor:
    """|cos| of the angle between two columns of H (..., d, n), its mean over all pairs: (...), in H's dtype.

    NaN for a single column and for a column of zeros.
    """
    directions: Tensor = columns / torch.linalg.vector_norm(columns, dim=-2, keepdim=True)
    cosines = (directions.mT @ directions).abs()
    n = cosines.shape[-1]
    upper = torch.triu_indices(n, n, offset=1, device=cosines.device)
    return cosines[..., upper[0], upper[1]].mean(-1)
