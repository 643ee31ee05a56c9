"""The polar factor of matrices by products alone."""

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import check_count

JORDAN = (3.4445, -4.7750, 2.0315)


@torch.no_grad()
def newton_schulz_polar(matrix: Tensor, steps: int = 5, coefficients: tuple[float, float, float] = JORDAN) -> Tensor:
    """Brings all singular values of matrices near 1 by the quintic Newton-Schulz iteration (Jordan et al. 2024):

        X <- a X + (b A + c A^2) X,   A = X X^H,   from X = M / |M|_F.

    It leaves the singular vectors as they are, and takes every singular value x <= 1 to a x + b x^3 + c x^5. Jordan's
    coefficients bring all values above 0.002 to 0.68 ... 1.21 in 5 steps, but never nearer. Those of the Taylor polynomial,
    (15/8, -10/8, 3/8), converge to the polar factor (M M^H)^(-1/2) M itself: a value x needs about log(1/x) / log(15/8) steps
    to come near 1, and two or three more to be exact.

    Args:
        matrix: (..., rows, columns), real or complex. Matrices of any scale: they are divided by their Frobenius norms first.
        steps: of the iteration.
        coefficients: a, b, c.

    Returns:
        Matrices of the same shape and dtype, without gradient. 0 stays 0.

    Raises:
        ValueError: unless ``steps`` is a whole number >= 0.

    Example:
        >>> factor = newton_schulz_polar(torch.randn(4, 6), steps=20, coefficients=(1.875, -1.25, 0.375))
        >>> torch.dist(factor @ factor.mT, torch.eye(4)) < 1e-5
        tensor(True)
    """
    check_count("steps", steps, least=0)
    a, b, c = coefficients
    tall = matrix.shape[-2] > matrix.shape[-1]
    wide = matrix.mH if tall else matrix
    with full_precision(matrix.device):
        x = wide.reshape(-1, *wide.shape[-2:])
        largest = x.abs().amax((-2, -1), keepdim=True)  # first, since the squares may overflow or underflow
        tiny = torch.finfo(largest.dtype).tiny
        x = x / largest.clamp_min(tiny)
        x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(tiny)
        for _ in range(steps):
            gram = x @ x.mH
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.view(wide.shape)
    return x.mH if tall else x
