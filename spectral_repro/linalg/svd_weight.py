"""Weights from the singular value decomposition of a layer's inputs (daneshmand2021)."""

import torch
from torch import Tensor

from spectral_repro.linalg.checks import check_count

ROUNDING = torch.finfo(torch.float32).eps


def svd_weight(inputs: Tensor, channels: int, exponent: float) -> Tensor:
    """The weight U[:c, :c] diag(s_1, ..., s_c)^-e V^T[:c] for inputs X = U diag(s) V^T: (c, P), float64.

    With F(x) = x^(-(1 + e) / 2) on the c largest eigenvalues and 0 on the others, this is X[:c] F(X^T X), and the first c rows
    of F(X X^T) X: the smaller of the two matrices is decomposed, in float64, and the signs of singular vectors do not matter.

    The relative error grows as 1e-16 (s_1 / s_c)^2; that of a decomposition of X in float32, as published, is 6e-8 s_1 / s_c.
    Singular values below 1.2e-7 |X|_F, the rounding error of float32, count as 0, and so do their inverses.

    Args:
        inputs: X (N, P), a row for each input of the layer; float32 or float64.
        channels: c, outputs of the layer.
        exponent: e, 1/2 for convolutions, 1 for linear layers, as published.

    Raises:
        ValueError: for fewer channels than 1, or more than inputs or than numbers in an input.
        torch.linalg.LinAlgError: for inputs that hold NaN or infinity.
    """
    check_count("channels", channels)
    if channels > min(inputs.shape):
        raise ValueError(f"channels={channels}: must be at most {min(inputs.shape)} with inputs {tuple(inputs.shape)}")
    x = inputs.double()
    few_numbers = x.shape[1] <= x.shape[0]
    vectors: Tensor
    eigenvalues, vectors = torch.linalg.eigh(x.mT @ x if few_numbers else x @ x.mT)
    largest, basis = eigenvalues[-channels:], vectors[:, -channels:]
    null = largest <= ROUNDING**2 * eigenvalues.sum()
    factors: Tensor = torch.where(null, torch.inf, largest) ** (-(1 + exponent) / 2)
    if few_numbers:
        return (x[:channels] @ basis * factors) @ basis.mT
    return (basis[:channels] * factors) @ (basis.mT @ x)
