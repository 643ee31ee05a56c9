"""Functions of symmetric matrices, differentiable by any backward method."""

from torch import Tensor

from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, Power, SpectralFunction, Sqrt


def matrix_function(
    matrix: Tensor, function: SpectralFunction, backward: Backward = Exact(), shift: float = 0.0
) -> tuple[Tensor, Tensor]:
    """F(A) = f(A + s I) = V f(Lambda + s) V^T of symmetric matrices.

    The shift s comes after the decomposition, so that it does not drown the eigenvectors of an A much smaller than s.

    Args:
        matrix: A (..., d, d), symmetric (the lower triangle is read), float32 or float64.
        function: f, see `spectral_repro.linalg.functions`.
        backward: the gradient method, see `spectral_repro.linalg.backward`.
        shift: s >= 0; with s > 0 A is taken to be positive semidefinite, and what rounding puts below s / 2 is set to s / 2.

    Returns:
        F (..., d, d), differentiable once, and the shifted eigenvalues (..., d) in descending order, without gradient;
        NaN from a method that finds none.

    A matrix with NaN or infinity gives NaN or raises torch.linalg.LinAlgError, as `torch.linalg.eigh` does.
    """
    return backward.evaluate(matrix, function, shift)


def sqrtm(matrix: Tensor, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """(A + s I)^(1/2), shapes and errors as `matrix_function`."""
    return matrix_function(matrix, Sqrt(), backward, shift)[0]


def inverse_sqrtm(matrix: Tensor, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """(A + s I)^(-1/2), shapes and errors as `matrix_function`."""
    return matrix_function(matrix, InverseSqrt(), backward, shift)[0]


def powerm(matrix: Tensor, exponent: float, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """(A + s I)^p of a positive definite argument, shapes and errors as `matrix_function`."""
    return matrix_function(matrix, Power(exponent), backward, shift)[0]


def logm(matrix: Tensor, backward: Backward = Exact(), shift: float = 0.0) -> Tensor:
    """log(A + s I) of a positive definite argument, shapes and errors as `matrix_function`."""
    return matrix_function(matrix, Log(), backward, shift)[0]


def expm(matrix: Tensor, rate: float = 1.0, backward: Backward = Exact()) -> Tensor:
    """exp(c A), shapes and errors as `matrix_function`."""
    return matrix_function(matrix, Exp(rate), backward)[0]
