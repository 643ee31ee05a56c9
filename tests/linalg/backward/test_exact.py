"""The exact gradient against finite differences and against 60 digits."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, One, Power, Restricted, Sqrt
from spectral_repro.linalg.selection import Information, Leading, PublishedCut
from tests.tolerance import tolerance

RESTRICTED = [InverseSqrt(), Restricted(InverseSqrt(), Leading(2)), Restricted(One(), Leading(2))]


@pytest.mark.parametrize(
    ("function", "spectrum"),
    [
        (InverseSqrt(), "separated"),
        (InverseSqrt(), "close"),
        (InverseSqrt(), "tied"),
        (Restricted(InverseSqrt(), Leading(2)), "separated"),
        (Restricted(InverseSqrt(), Leading(3)), "tied"),
        (Restricted(InverseSqrt(), PublishedCut(0.08)), "separated"),
        (Restricted(Sqrt(), Leading(3)), "tied"),
        (Restricted(Log(), Leading(2)), "separated"),
        (Restricted(One(), Leading(2)), "separated"),
        (Restricted(One(), Leading(3)), "tied"),
        (Restricted(One(), Information(0.8)), "separated"),
        (Restricted(One(), Leading(5)), "separated"),
    ],
    indirect=["spectrum"],
    ids=str,
)
def test_it_agrees_with_finite_differences(function, spectrum, symmetric):
    matrix = symmetric(spectrum).requires_grad_()
    assert gradcheck(lambda a: matrix_function((a + a.mT) / 2, function, Exact())[0], (matrix,))


def test_gradient_at_a_multiple_of_the_identity(random_gradient, matrix_gradient):
    gradient = random_gradient(4)
    result = matrix_gradient(2.5 * torch.eye(4, dtype=torch.float64), InverseSqrt(), Exact(), gradient)
    torch.testing.assert_close(result, -0.5 * 2.5**-1.5 * (gradient + gradient.T) / 2)


@pytest.mark.parametrize("function", [One(), InverseSqrt()])
def test_no_gradient_between_tied_directions_on_both_sides_of_the_cut(function):
    kernel = Exact().kernel(Restricted(function, Leading(2)), torch.tensor([3.0, 1.0, 1.0, 0.5], dtype=torch.float64))
    assert kernel[1, 2] == kernel[2, 1] == 0
    assert kernel[0, 2] == pytest.approx(float(function(torch.tensor(3.0))) / 2, rel=1e-6)
    assert kernel[2, 3] == 0


@pytest.mark.parametrize("function", [InverseSqrt(), Sqrt(), Power(0.25), Log(), Exp(-1.0)], ids=str)
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied", "condition-1e14"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_a_diagonal_matrix_is_exact_to_rounding(
    function, spectrum, dtype, random_gradient, matrix_gradient, exact_kernel
):
    eigenvalues, gradient = torch.tensor(spectrum, dtype=dtype), random_gradient(5).to(dtype)
    result = matrix_gradient(torch.diag(eigenvalues), function, Exact(), gradient)
    expected = exact_kernel(eigenvalues, function) * ((gradient + gradient.T) / 2).double()
    torch.testing.assert_close(result.double(), expected, rtol=tolerance(dtype, terms=5), atol=0)


@pytest.mark.parametrize("function", [Sqrt(), InverseSqrt(), Log()], ids=str)
@pytest.mark.parametrize("spectrum", ["rank-deficient"], indirect=True)
def test_a_shift_makes_the_gradient_of_a_rank_deficient_matrix_finite(
    function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    gradient, identity = random_gradient(5), torch.eye(5, dtype=torch.float64)
    result = matrix_gradient(symmetric(spectrum), function, Exact(), gradient, shift=0.01)
    expected = matrix_gradient(symmetric(spectrum) + 0.01 * identity, function, Exact(), gradient)
    assert relative_error(result, expected) < 1e-10


# The kernel


@pytest.mark.parametrize("function", RESTRICTED)
def test_the_kernel_is_symmetric_with_the_derivative_on_the_diagonal(function):
    eigenvalues = torch.tensor([(4.0, 3.0, 2.0, 0.7, 0.3), (5.0, 4.0, 3.0, 2.0, 1.0)], dtype=torch.float64)
    kernel = Exact().kernel(function, eigenvalues)
    assert kernel.shape == (2, 5, 5)
    assert torch.equal(kernel, kernel.mT)
    derivative = jacobian(lambda values: function(values).sum(), eigenvalues)
    torch.testing.assert_close(kernel.diagonal(dim1=-2, dim2=-1), derivative)


@pytest.mark.parametrize("function", RESTRICTED)
@pytest.mark.parametrize("eigenvalues", [(1e-4,) * 4, (1.0, 1e-4, 1e-4, 1e-4), (1e30, 1e15, 1.0, 1e-4)])
def test_the_kernel_is_finite_in_float32_for_any_positive_spectrum(eigenvalues, function):
    assert Exact().kernel(function, torch.tensor(eigenvalues)).isfinite().all()


@pytest.mark.parametrize("relative_gap", [0.5, 1e-3, 1e-5, 2e-7, 0.0])
def test_the_kernel_loses_no_accuracy_in_float32_as_a_gap_closes(relative_gap, exact_kernel):
    eigenvalues = torch.tensor([3.0, 3.0 * (1 - relative_gap)])
    kernel = Exact().kernel(InverseSqrt(), eigenvalues)
    torch.testing.assert_close(kernel.double(), exact_kernel(eigenvalues, InverseSqrt()), rtol=tolerance(torch.float32), atol=0)
