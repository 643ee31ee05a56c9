"""The square root and its inverse of symmetric positive definite matrices by products and solves, without eigenvalues.

Each takes A (..., d, d) and returns A^(1/2), or A^(-1/2) with ``inverse``. All are differentiable by autograd.
Numbers of iterations and degrees are whole numbers >= 0, else they raise ValueError.
"""

from math import comb

import torch
from torch import Tensor

from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.hermitian import identity


def newton_schulz(matrix: Tensor, iterations: int = 10, inverse: bool = False) -> Tensor:
    """The coupled Newton-Schulz iteration, from Y = A / tr A and Z = I (iSQRT-COV, Li et al. 2018):

        T = (3 I - Z Y) / 2,   Y <- Y T,   Z <- T Z;    A^(1/2) ~ sqrt(tr A) Y,   A^(-1/2) ~ Z / sqrt(tr A).

    An eigenvalue below about (4/9)^iterations tr A has not converged. Where A is singular, rounding errors grow by 3/2 in each
    iteration: 20 of them leave 3 digits in float32 and 12 in float64.

    Args:
        matrix: A (..., d, d), symmetric and positive definite.
        iterations: how many.
        inverse: compute A^(-1/2) instead of A^(1/2).

    Returns:
        The root (..., d, d), in the dtype of the matrix.

    Example:
        >>> root = newton_schulz(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> torch.dist(root @ root, torch.tensor([[2.0, 1.0], [1.0, 2.0]])) < 1e-3
        tensor(True)
    """
    check_count("iterations", iterations, least=0)
    trace = _positive(matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None])
    eye = identity(matrix)
    y, z = matrix / trace, eye
    for _ in range(iterations):
        t = (3 * eye - z @ y) / 2
        y, z = y @ t, t @ z
    return z / trace.sqrt() if inverse else trace.sqrt() * y


def mpa(matrix: Tensor, degree: int = 5, inverse: bool = False) -> Tensor:
    """The diagonal Pade approximant [n/n] about the identity, n = ``degree`` (MPA, Song et al. 2022):

        a^(1/2) ~ sum_k C(2n+1, 2k) a^k / sum_k C(2n+1, 2k+1) a^k,    a = A / |A|_F.

    That is (a^(1/2) times) the even over the odd part of (1 + a^(1/2))^(2n+1), off by the factor
    1 + O(((1 - a^(1/2)) / (1 + a^(1/2)))^(2n+1)): good to 1 % for eigenvalues above 0.06 |A|_F with n = 5.
    The solve multiplies rounding by up to 4^n: in float32 a degree above 8 or so makes the root worse.

    Args:
        matrix: A (..., d, d), symmetric and positive definite.
        degree: n.
        inverse: compute A^(-1/2) instead of A^(1/2).

    Returns:
        The root (..., d, d), in the dtype of the matrix.

    Example:
        >>> root = mpa(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> torch.dist(root @ root, torch.tensor([[2.0, 1.0], [1.0, 2.0]])) < 1e-3
        tensor(True)
    """
    check_count("degree", degree, least=0)
    norm = _positive(torch.linalg.matrix_norm(matrix, keepdim=True))
    scaled, power = matrix / norm, identity(matrix)
    even, odd = torch.zeros_like(matrix), torch.zeros_like(matrix)
    for k in range(degree + 1):
        even = even + float(comb(2 * degree + 1, 2 * k)) * power
        odd = odd + float(comb(2 * degree + 1, 2 * k + 1)) * power
        power = power @ scaled
    quotient: Tensor = torch.linalg.solve(even, odd) if inverse else torch.linalg.solve(odd, even)
    return quotient / norm.sqrt() if inverse else norm.sqrt() * quotient


def mtp(matrix: Tensor, degree: int = 11, inverse: bool = False) -> Tensor:
    """The Taylor polynomial of (I - Z)^(+-1/2) at Z = 0, Z = I - A / |A|_F (MTP, Song et al. 2022).

    For the eigenvalue a of A / |A|_F the root is too large by at most (1 - a)^(degree + 1) |A|_F^(1/2), the inverse root too
    small by at most (1 - a)^(degree + 1) of itself.

    Args:
        matrix: A (..., d, d), symmetric and positive definite.
        degree: of the polynomial.
        inverse: compute A^(-1/2) instead of A^(1/2).

    Returns:
        The root (..., d, d), in the dtype of the matrix.

    Example:
        >>> root = mtp(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> torch.dist(root @ root, torch.tensor([[2.0, 1.0], [1.0, 2.0]])) < 1e-3
        tensor(True)
    """
    check_count("degree", degree, least=0)
    norm, eye = _positive(torch.linalg.matrix_norm(matrix, keepdim=True)), identity(matrix)
    z, exponent = eye - matrix / norm, -0.5 if inverse else 0.5
    coefficients = [1.0]
    for k in range(1, degree + 1):
        coefficients.append(coefficients[-1] * (k - 1 - exponent) / k)
    total = coefficients[-1] * eye
    for coefficient in reversed(coefficients[:-1]):
        total = total @ z + coefficient * eye
    return total / norm.sqrt() if inverse else norm.sqrt() * total


def _positive(scale: Tensor) -> Tensor:
    """The scale of a matrix, made positive for a zero matrix, whose root is then 0."""
    return scale.clamp_min(torch.finfo(scale.dtype).tiny)
