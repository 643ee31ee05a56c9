"""Errors of a batch of matrices."""

import torch
from torch import Tensor


def norms(matrices: Tensor) -> Tensor:
    """Frobenius norms (n,) of (n, d, d)."""
    return torch.linalg.vector_norm(matrices, dim=(-2, -1))


def relative_error(measured: Tensor, exact: Tensor) -> Tensor:
    """|measured - exact| / |exact|, (n,)."""
    return norms(measured - exact) / norms(exact)


def angle(measured: Tensor, exact: Tensor) -> Tensor:
    """The angle between them in degrees (n,), accurate for the smallest ones; NaN where one of them is 0."""
    a, b = (x / norms(x)[:, None, None] for x in (measured, exact))
    return torch.rad2deg(2 * torch.atan2(norms(a - b), norms(a + b)))
