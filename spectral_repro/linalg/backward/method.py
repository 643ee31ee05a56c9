"""The base classes of backward methods.

A `Kernel` of your own needs one formula:

    class Halved(Kernel):
        def kernel(self, function, eigenvalues):
            return function.divided_differences(eigenvalues) / 2
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from spectral_repro.linalg.functions import InverseSqrt, SpectralFunction, Sqrt


class Backward(ABC):
    """A way to differentiate F(A) = V diag(f(lambda)) V^T.

    Most methods are a `Kernel`: F comes from an eigendecomposition, and the method says what its gradient is. The others
    (`decomposes` is False) compute F step by step in `evaluate`, and the gradient is that of the steps.

    Example:
        >>> Exact().decomposes, NewtonSchulz(5, forward="newton_schulz").decomposes
        (True, False)
    """

    roots_only: ClassVar[bool] = False

    @property
    def current(self) -> "Backward":
        """The method itself, or the one that a `Hybrid` uses now."""
        return self

    @property
    @abstractmethod
    def decomposes(self) -> bool:
        """Whether F comes from an eigendecomposition and its gradient from a `Kernel`."""

    def evaluate(self, matrix: Tensor, function: SpectralFunction, shift: float) -> tuple[Tensor, Tensor]:
        """F(A + s I) (..., d, d), differentiable, and the eigenvalues (..., d), NaN if it computes none; without `Kernel`."""
        raise NotImplementedError(f"{self} does not compute F without an eigendecomposition")

    def check(self, function: SpectralFunction, shift: float) -> None:
        """Raises ValueError if the method cannot compute f with this shift of `matrix_function`."""
        if not shift >= 0:
            raise ValueError(f"shift={shift}: must be >= 0")
        if self.roots_only and not isinstance(function, Sqrt | InverseSqrt):
            name = type(self).__name__
            raise ValueError(f"{name} has a gradient of the square root and the inverse square root only, not of {function}")


def check_method(name: str, value: object) -> None:
    """Raises ValueError unless an argument is a backward method."""
    if not isinstance(value, Backward):
        raise ValueError(f"{name}={value!r}: must be a method such as Exact()")


class Kernel(Backward):
    """F = V diag(f(lambda)) V^T from `torch.linalg.eigh`, its gradient from a symmetric kernel D:

    dL/dA = V (D o (V^T sym(dL/dF) V)) V^T,    D_ii = f'(lambda_i).

    Example:
        >>> class Halved(Kernel):
        ...     def kernel(self, function, eigenvalues):
        ...         return function.divided_differences(eigenvalues) / 2
        >>> A = torch.eye(2, requires_grad=True)
        >>> sqrtm(A, backward=Halved()).trace().backward()
        >>> A.grad.diagonal()
        tensor([0.2500, 0.2500])
    """

    @property
    def decomposes(self) -> bool:
        return True

    @abstractmethod
    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        """D, shape (..., d, d), for eigenvalues (..., d) in descending order."""

    def applied(self, function: SpectralFunction) -> SpectralFunction:
        """The function that the method computes instead of f."""
        return function

    def inner(self, function: SpectralFunction, eigenvalues: Tensor, rotated: Tensor) -> Tensor:
        """V^T dL/dA V (..., d, d) for ``rotated`` = V^T sym(dL/dF) V."""
        return self.kernel(function, eigenvalues) * rotated

    def gradient(self, function: SpectralFunction, eigenvalues: Tensor, eigenvectors: Tensor, grad_output: Tensor) -> Tensor:
        """dL/dA (..., d, d) of eigenvalues (..., d), descending, eigenvectors as columns and the symmetric part of dL/dF."""
        rotated = eigenvectors.mT @ grad_output @ eigenvectors
        return eigenvectors @ self.inner(function, eigenvalues, rotated) @ eigenvectors.mT

    @property
    def is_derivative(self) -> bool:
        """Whether the kernel is that of the exact derivative: second derivatives and forward mode are then possible."""
        return False


class Gapped(Kernel):
    """A method with a gradient of the eigenvectors as well: it replaces 1 / (lambda_j - lambda_i) by K_ij, see `eigh`.

    Example:
        >>> Exact().reciprocal_gaps(torch.tensor([4.0, 2.0]))
        tensor([[ 0.0000, -0.5000],
                [ 0.5000,  0.0000]])
    """

    @abstractmethod
    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        """K (..., d, d), 0 on the diagonal, of eigenvalues (..., d) in descending order."""


def first_order_alone(method: Backward) -> str:
    """The message of the error for second derivatives and forward mode."""
    return f"{method} has no second derivative and no forward mode: use Exact()"
