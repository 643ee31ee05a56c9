"""Functions of eigenvalues, their derivatives and divided differences, against mpmath at 60 digits."""

from inspect import isfunction
from itertools import combinations, permutations

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, One, Power, Product, SpectralFunction, Sqrt
from tests.tolerance import assert_near, tolerance

OF_POSITIVE = [InverseSqrt(), Sqrt(), *map(Power, (0.5, -0.5, 0.25, 2.0, -1.5, 0.0)), Log()]
OF_ANY = [Exp(), Exp(-1.0), Exp(0.5), One()]
GAPS = (0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1 - 1e-4, 1 - 1e-8, 1 - 1e-12)

each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def relative_errors(values, exact):
    """The largest, in rounding units of the dtype; infinite for what should overflow or be zero and is not."""
    limits, size, expected = torch.finfo(values.dtype), exact.abs(), exact.to(values.dtype)
    errors = (values.double() - exact).abs() / size / limits.eps
    out_of_range = torch.where((values == expected) | ((values - expected).abs() < limits.tiny), 0.0, torch.inf)
    return errors.where((size > limits.tiny) & (size < limits.max), out_of_range).max().item()


def eigenvalues_of(function, scale, dtype):
    """Eigenvalues with relative gaps from 1e-12 to 1 - 1e-12 to the first, and a tie; for Exp those gaps themselves."""
    if function in OF_ANY:
        return torch.tensor([3.0, *(3.0 - 6 * gap for gap in GAPS)], dtype=dtype)
    return scale * torch.tensor([1.0, *(1 - gap for gap in GAPS)], dtype=dtype)


@each_dtype
@pytest.mark.parametrize(
    ("function", "scale"),
    [(function, scale) for function in OF_POSITIVE for scale in (1e-6, 1.0, 1e6)] + [(function, 1.0) for function in OF_ANY],
    ids=str,
)
def test_values_derivatives_and_divided_differences_are_exact_to_rounding(function, scale, dtype, in_mpmath, exact_kernel):
    eigenvalues = eigenvalues_of(function, scale, dtype)
    with mpmath.workdps(60):
        exact = torch.tensor([float(in_mpmath(function)(mpmath.mpf(x))) for x in eigenvalues.tolist()], dtype=torch.float64)
    values, differences = function(eigenvalues), function.divided_differences(eigenvalues)
    assert values.dtype == differences.dtype == dtype
    assert relative_errors(values, exact) < 4
    kernel = exact_kernel(eigenvalues, function)
    assert relative_errors(function.derivative(eigenvalues), kernel.diagonal()) < 8
    assert relative_errors(differences, kernel) < 8
    assert torch.equal(differences, differences.mT)


@each_dtype
@pytest.mark.parametrize(
    ("function", "first", "second"),
    [
        (Product(Sqrt(), Exp(-1.0)), Sqrt(), Exp(-1.0)),
        (Product(Log(), Power(2.0)), Log(), Power(2.0)),
        (Product(Sqrt(), InverseSqrt()), Sqrt(), InverseSqrt()),
    ],
    ids=str,
)
def test_a_product_is_exact_to_rounding_of_its_two_terms(function, first, second, dtype, in_mpmath, pairwise):
    eigenvalues = eigenvalues_of(function, 1.0, dtype)
    g, h = in_mpmath(first), in_mpmath(second)

    def slope(f, a, b):
        return (f(a) - f(b)) / (a - b) if a > b else mpmath.diff(f, a)

    kernel = pairwise(eigenvalues, lambda a, b: slope(lambda x: g(x) * h(x), a, b))
    terms = pairwise(
        eigenvalues, lambda a, b: abs(g(a) * slope(h, a, b)) + abs(g(b) * slope(h, a, b)) + abs(slope(g, a, b) * h(b))
    )
    rounding = 8 * torch.finfo(dtype).eps * terms
    assert ((function.divided_differences(eigenvalues) - kernel).abs() <= rounding).all()
    assert ((function.derivative(eigenvalues) - kernel.diagonal()).abs() <= rounding.diagonal()).all()
    with mpmath.workdps(60):
        exact = torch.tensor([float(g(x) * h(x)) for x in map(mpmath.mpf, eigenvalues.tolist())], dtype=torch.float64)
    assert relative_errors(function(eigenvalues), exact) < 8


@pytest.mark.parametrize(
    ("function", "eigenvalues"),
    [
        (Exp(), (80.0, 0.0, -80.0, -1000.0)),
        (Exp(-1.0), (1000.0, 200.0, 0.0, -80.0)),
        (Power(-0.5), (1e20, 1.0, 1e-8, 1e-16)),
        (Power(0.5), (1e30, 1e15, 1e-4, 1e-30)),
        (Power(2.0), (1e18, 1.0, 1e-8, 1e-16)),
        (Log(), (1e20, 1.0, 1e-8, 1e-16)),
        (Sqrt(), (1e30, 1.0, 1e-8, 1e-30)),
        (InverseSqrt(), (1e20, 1.0, 1e-8, 1e-16)),
    ],
    ids=str,
)
def test_no_pair_overflows_in_float32_unless_its_value_does(function, eigenvalues):
    eigenvalues = torch.tensor(eigenvalues)
    result, exact = function.divided_differences(eigenvalues), function.divided_differences(eigenvalues.double())
    assert result.isfinite().all()
    torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-38)


def test_the_square_root_has_no_slope_at_zero():
    eigenvalues = torch.tensor([4.0, 0.0, 0.0])
    assert Sqrt().derivative(eigenvalues).tolist() == [0.25, torch.inf, torch.inf]
    inf = torch.inf
    assert Sqrt().divided_differences(eigenvalues).tolist() == [[0.25, 0.5, 0.5], [0.5, inf, inf], [0.5, inf, inf]]


@pytest.mark.parametrize("function", [*OF_POSITIVE, *OF_ANY, Product(Sqrt(), Exp(-1.0))], ids=str)
def test_batches_of_eigenvalues_are_taken_one_by_one(function):
    eigenvalues = torch.tensor([[[3.0, 2.0, 2.0], [1.0, 0.1, 0.01]], [[5.0, 4.0, 1.0], [7.0, 7.0, 7.0]]], dtype=torch.float64)
    differences = function.divided_differences(eigenvalues)
    assert differences.shape == (2, 2, 3, 3)
    rounding = tolerance(torch.float64, condition=100)  # several numbers may go through other instructions than one
    for index in np.ndindex(2, 2):
        torch.testing.assert_close(differences[index], function.divided_differences(eigenvalues[index]), rtol=rounding, atol=0)
    slopes = jacobian(lambda values: function(values).sum(), eigenvalues)
    torch.testing.assert_close(function.derivative(eigenvalues), slopes)
    torch.testing.assert_close(differences.diagonal(dim1=-2, dim2=-1), slopes)


@pytest.mark.parametrize("spectrum", ["separated", "close", "tied"], indirect=True)
@pytest.mark.parametrize("function", [*OF_POSITIVE, *OF_ANY, Product(Sqrt(), Exp(-1.0))], ids=str)
def test_the_gradient_of_the_matrix_function_agrees_with_finite_differences(function, spectrum, symmetric):
    matrix = symmetric(spectrum).requires_grad_()
    assert gradcheck(lambda a: matrix_function((a + a.mT) / 2, function, Exact())[0], (matrix,), fast_mode=True)


@pytest.mark.parametrize("function", OF_ANY, ids=str)
@pytest.mark.parametrize("spectrum", ["indefinite"], indirect=True)
def test_the_gradient_of_entire_functions_needs_no_positive_eigenvalues(function, spectrum, symmetric):
    matrix = symmetric(spectrum).requires_grad_()
    assert gradcheck(lambda a: matrix_function((a + a.mT) / 2, function, Exact())[0], (matrix,), fast_mode=True)


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (Sqrt(), scipy.linalg.sqrtm),
        (InverseSqrt(), lambda a: scipy.linalg.inv(scipy.linalg.sqrtm(a))),
        (Power(0.3), lambda a: scipy.linalg.fractional_matrix_power(a, 0.3)),
        (Power(-2.0), lambda a: np.linalg.matrix_power(a, -2)),
        (Log(), scipy.linalg.logm),
        (Exp(), scipy.linalg.expm),
        (Exp(-1.0), lambda a: scipy.linalg.expm(-a)),
        (Product(Sqrt(), Exp(-1.0)), lambda a: scipy.linalg.sqrtm(a) @ scipy.linalg.expm(-a)),
    ],
    ids=lambda value: value.__name__ if isfunction(value) else str(value),
)
@pytest.mark.parametrize("spectrum", ["separated", "tied"], indirect=True)
def test_matrix_functions_are_those_of_scipy(function, reference, spectrum, symmetric):
    matrix = symmetric(spectrum)
    result, _ = matrix_function(matrix, function)
    assert_near(result, torch.from_numpy(reference(matrix.numpy())), terms=25, condition=100)


@each_dtype
@pytest.mark.parametrize(
    ("function", "f"),
    [
        (Sqrt(), mpmath.sqrt),
        (InverseSqrt(), lambda x: 1 / mpmath.sqrt(x)),
        (Power(0.3), lambda x: x ** mpmath.mpf(0.3)),
        (Power(-1.5), lambda x: x ** mpmath.mpf(-1.5)),
        (Power(2.0), lambda x: x**2),
        (Log(), mpmath.log),
        (Exp(-2.0), lambda x: mpmath.exp(-2 * x)),
        (Product(Sqrt(), Exp(-1.0)), lambda x: mpmath.sqrt(x) * mpmath.exp(-x)),
    ],
    ids=lambda value: str(value) if isinstance(value, SpectralFunction) else None,
)
def test_second_divided_differences_lose_no_accuracy_as_gaps_close(function, f, dtype):
    """The definition with ties parted by 1e-30, at 120 digits."""
    eigenvalues = torch.tensor([3.0, 3.0, 3.0, 2.9, 2.75, 2.2, 1.0, 1e-3], dtype=dtype)
    found = function.second_divided_differences(eigenvalues)
    assert found.shape == (8, 8, 8) and found.dtype == dtype
    with mpmath.workdps(120):
        values = [mpmath.mpf(x) + index * mpmath.mpf(10) ** -30 for index, x in enumerate(eigenvalues.tolist())]
        for i, j, k in combinations(range(8), 3):
            a, b, c = (values[index] for index in (i, j, k))
            first, second = (f(a) - f(b)) / (a - b), (f(b) - f(c)) / (b - c)
            expected = float((first - second) / (a - c))
            for indices in permutations((i, j, k)):
                assert found[indices].item() == pytest.approx(expected, rel=500 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("exponent", "expected"), [(1.0, 0.0), (2.0, 1.0), (3.0, 0.0), (2.5, 0.0), (1.5, float("inf"))])
def test_the_second_divided_difference_of_a_power_at_equal_zeros(exponent: float, expected: float):
    assert Power(exponent).second_divided_differences(torch.tensor([1.0, 0.0, 0.0]))[1, 2, 1].item() == expected


@pytest.mark.parametrize("function", [Sqrt(), Power(0.3), Product(Sqrt(), Exp(-1.0)), Product(Exp(-1.0), Sqrt())], ids=str)
def test_a_function_that_starts_from_zero_can_be_divided_by_its_argument(function):
    eigenvalues = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)
    assert function.from_zero and not function(torch.zeros(1)).any()
    torch.testing.assert_close(function.over_argument()(eigenvalues), function(eigenvalues) / eigenvalues)


@pytest.mark.parametrize("function", [Log(), Exp(), InverseSqrt(), Power(-0.5)], ids=str)
def test_other_functions_do_not_start_from_zero(function):
    assert not function.from_zero
