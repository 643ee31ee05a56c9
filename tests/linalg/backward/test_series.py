"""Series in the ratio of two eigenvalues, term by term at 60 digits, and the published Pade approximant."""

from fractions import Fraction
from itertools import pairwise as neighbours

import mpmath
import numpy as np
import pytest
import sympy
import torch
from torch.autograd.functional import jacobian

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact, Pade, PlainSVD, PowerIteration, Taylor
from spectral_repro.linalg.backward.series import geometric_sum, polynomials, published_pade
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, One, Restricted, Sqrt
from spectral_repro.linalg.selection import Leading, PublishedCut
from tests.tolerance import tolerance

FUNCTIONS = [InverseSqrt(), Sqrt(), Log(), Exp(-1.0)]
RESTRICTED = [InverseSqrt(), Restricted(InverseSqrt(), Leading(3)), Restricted(One(), Leading(3))]

each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def terms(ratio, degree):
    """1 + r + ... + r^K, one after the other."""
    total, power = mpmath.mpf(0), mpmath.mpf(1)
    for _ in range(degree + 1):
        total, power = total + power, power * ratio
    return total


@each_dtype
@pytest.mark.parametrize("degree", [0, 1, 18, 100, 1000])
def test_the_closed_geometric_sum_is_the_sum_of_its_terms(degree, dtype):
    x = torch.tensor([1.0, 0.999, 0.5, 1e-2, 1e-4, 1e-8, 1e-12, 1e-16, 0.0], dtype=dtype)
    with mpmath.workdps(60):
        expected = [float(terms(1 - mpmath.mpf(gap), degree)) for gap in x.tolist()]
    result = geometric_sum(x, degree)
    assert result.dtype == dtype
    assert result.tolist() == pytest.approx(expected, rel=tolerance(dtype))


# Kernels of Taylor and of power iteration


def taylor_definition(f, degree):
    return lambda a, b: (f(a) - f(b)) * terms(b / a, degree) / a


def power_definition(f, iterations):
    return lambda a, b: (f(a) * terms(b / a, iterations) - f(b) * terms(b / a, iterations - 1)) / a


@each_dtype
@pytest.mark.parametrize(
    ("method", "definition", "count"),
    [(Taylor, taylor_definition, 5), (Taylor, taylor_definition, 100), (PowerIteration, power_definition, 19)],
    ids=["taylor-5", "taylor-100", "pi-19"],
)
@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied", "condition-1e14"], indirect=True)
def test_the_kernel_is_the_sum_of_its_terms(method, definition, count, function, spectrum, dtype, in_mpmath, pairwise):
    eigenvalues, f = torch.tensor(spectrum, dtype=dtype), in_mpmath(function)
    kernel = method(count).kernel(function, eigenvalues).double()
    expected = pairwise(eigenvalues, definition(f, count))
    rounding = pairwise(eigenvalues, lambda a, b: (abs(f(a)) + abs(f(b))) * terms(b / a, count) / a) * torch.finfo(dtype).eps
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    assert ((kernel - expected).abs() <= 8 * rounding)[off_diagonal].all()
    torch.testing.assert_close(kernel.diagonal(), function.derivative(eigenvalues).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", [Taylor(7), Taylor(), PowerIteration(7), PowerIteration()], ids=str)
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied", "condition-1e14"], indirect=True)
def test_the_factor_of_f_is_bounded(method, spectrum):
    """Of f = 1 on the first eigenvalue and 0 on the others: at most (K + 1) / lambda_1, however close they are."""
    count = getattr(method, "degree", None) or method.iterations
    eigenvalues = torch.tensor(spectrum, dtype=torch.float64)
    factors = method.kernel(Restricted(One(), Leading(1)), eigenvalues)[0, 1:]
    assert (factors > 0).all() and (factors <= (count + 1) / eigenvalues[0] * (1 + 1e-12)).all()
    tied = eigenvalues[1:] == eigenvalues[0]
    torch.testing.assert_close(factors[tied], ((count + 1) / eigenvalues[0]).expand(int(tied.sum())))


@pytest.mark.parametrize("method", [Taylor(), PowerIteration(), Pade()], ids=str)
@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(2)), Restricted(One(), Leading(2))])
def test_the_kernel_is_symmetric_with_the_derivative_on_the_diagonal(function, method):
    eigenvalues = torch.tensor([(4.0, 3.0, 2.0, 0.7, 0.3), (5.0, 4.0, 3.0, 2.0, 1.0)], dtype=torch.float64)
    kernel = method.kernel(function, eigenvalues)
    assert kernel.shape == (2, 5, 5)
    assert torch.equal(kernel, kernel.mT)
    derivative = jacobian(lambda values: function(values).sum(), eigenvalues)
    torch.testing.assert_close(kernel.diagonal(dim1=-2, dim2=-1), derivative)


@pytest.mark.parametrize("method", [Taylor(), PowerIteration()], ids=str)
@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(2)), Restricted(One(), Leading(2))])
@pytest.mark.parametrize("eigenvalues", [(1e-4,) * 4, (1.0, 1e-4, 1e-4, 1e-4), (1e30, 1e15, 1.0, 1e-4)])
def test_the_kernel_is_finite_in_float32_for_any_positive_spectrum(eigenvalues, function, method):
    assert method.kernel(function, torch.tensor(eigenvalues)).isfinite().all()


@pytest.mark.parametrize("function", RESTRICTED)
@pytest.mark.parametrize("method", [Taylor, PowerIteration])
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_the_series_tends_to_exact(method, function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    exact = matrix_gradient(matrix, function, Exact(), gradient)
    errors = [relative_error(matrix_gradient(matrix, function, method(k), gradient), exact) for k in (1, 2, 4, 8, 16, 32, 64)]
    assert all(more > fewer for more, fewer in neighbours(errors))
    assert errors[0] > 0.01
    assert errors[-1] < 1e-6
    assert relative_error(matrix_gradient(matrix, function, method(200), gradient), exact) < 1e-12


@pytest.mark.parametrize("relative_gap", [0.5, 1e-3, 1e-5, 2e-7, 0.0])
def test_the_kernel_of_power_iteration_loses_no_accuracy_in_float32_as_a_gap_closes(relative_gap, in_mpmath, pairwise):
    eigenvalues = torch.tensor([3.0, 3.0 * (1 - relative_gap)])
    expected = pairwise(eigenvalues, power_definition(in_mpmath(InverseSqrt()), 19))
    result = PowerIteration(19).kernel(InverseSqrt(), eigenvalues)
    assert result[0, 1].item() == pytest.approx(expected[0, 1].item(), rel=tolerance(torch.float32, terms=19))


# Taylor


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99, 0.9999])
def test_taylor_loses_the_power_of_the_ratio(ratio, exact_kernel):
    eigenvalues = torch.tensor([2.0, 2.0 * ratio], dtype=torch.float64)
    lost = 1 - Taylor().kernel(Sqrt(), eigenvalues)[0, 1] / exact_kernel(eigenvalues, Sqrt())[0, 1]
    assert lost.item() == pytest.approx(ratio**101, abs=tolerance(torch.float64, terms=101))


@pytest.mark.parametrize("spectrum", ["tied"], indirect=True)
def test_taylor_passes_nothing_between_tied_directions(spectrum):
    eigenvalues = torch.tensor(spectrum, dtype=torch.float64)
    kernel = Taylor().kernel(InverseSqrt(), eigenvalues)
    tied = (eigenvalues[:, None] == eigenvalues) & ~torch.eye(5, dtype=torch.bool)
    assert (kernel[tied] == 0).all() and (kernel[~tied] != 0).all()


@pytest.mark.parametrize("method", [Taylor, PowerIteration])
@pytest.mark.parametrize("spectrum", ["close", "tied"], indirect=True)
def test_a_hundred_terms_are_far_from_exact_at_close_eigenvalues(
    method, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    exact = matrix_gradient(matrix, InverseSqrt(), Exact(), gradient)
    error = relative_error(matrix_gradient(matrix, InverseSqrt(), method(100), gradient), exact)
    assert 0.01 < error < 100


@pytest.mark.parametrize(
    ("method", "argument"), [(Taylor, "degree"), (PowerIteration, "iterations"), (Pade, "degree"), (Pade, "digits")]
)
@pytest.mark.parametrize("value", [0, -1, 2.5, "19", True, None])
def test_a_wrong_argument_is_named(method, argument, value):
    with pytest.raises(ValueError, match=f"^{argument}={value!r}: must be a whole number >= 1$"):
        method(**{argument: value})


# Power iteration


def deflation_loop(matrix, f, kept, iterations, deflate):
    """Sum of f(lambda) v v^T over the ``kept`` leading eigenvectors as wang2019 defines it, to be differentiated by autograd.

    Each eigenvector is what power iteration makes of itself: started at v, a constant, n steps v <- M v / |M v| stay at v and
    have the derivative sum_{k < n} (M / lambda)^k (I - v v^T) / lambda dM v. The published gradient has the terms k = 0 ... K,
    that is n = K + 1 steps. lambda is the Rayleigh quotient, and M is deflated before the next eigenvector.
    """
    start = torch.linalg.eigh(matrix.detach()).eigenvectors.flip(-1)
    total = torch.zeros_like(matrix)
    for index in range(kept):
        v = start[:, index]
        for _ in range(iterations + 1):
            v = matrix @ v
            v = v / v.norm()
        eigenvalue = v @ matrix @ v
        total = total + f(eigenvalue) * torch.outer(v, v)
        matrix = deflate(matrix, eigenvalue, v)
    return total


DEFLATIONS = {
    "M - lambda v v^T": lambda matrix, eigenvalue, v: matrix - eigenvalue * torch.outer(v, v),
    "M - M v v^T": lambda matrix, eigenvalue, v: matrix - matrix @ torch.outer(v, v),
}


@pytest.mark.parametrize("deflation", DEFLATIONS)
@pytest.mark.parametrize("iterations", [1, 4, 19])
@pytest.mark.parametrize("spectrum", ["separated", "close"], indirect=True)
@pytest.mark.parametrize(
    ("function", "f", "kept"),
    [
        (InverseSqrt(), torch.rsqrt, 5),
        (Restricted(InverseSqrt(), Leading(2)), torch.rsqrt, 2),
        (Restricted(InverseSqrt(), PublishedCut(0.08)), torch.rsqrt, 3),
        (Restricted(One(), Leading(3)), torch.ones_like, 3),
    ],
    ids=["whitening", "leading-2", "published-cut", "projector"],
)
def test_power_iteration_is_the_published_loop(
    function, f, kept, spectrum, iterations, deflation, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum).requires_grad_(), random_gradient(5)
    output = deflation_loop(matrix, f, kept, iterations, DEFLATIONS[deflation])
    (loop,) = torch.autograd.grad(output, matrix, gradient)

    assert relative_error(matrix_function(matrix, function, PowerIteration(iterations))[0], output) < 1e-10
    result = matrix_gradient(matrix.detach(), function, PowerIteration(iterations), gradient)
    assert relative_error(result, (loop + loop.T) / 2) < 1e-10


# Pade


@pytest.mark.parametrize("degree", [2, 3, 10, 50])
def test_the_system_of_the_pade_approximant_is_singular(degree):
    """sum_j c_{n + i - j} q_j = 0 with every Taylor coefficient c = 1 of 1 / (1 - x): rank 1 in n unknowns."""
    system = sympy.Matrix(degree, degree, lambda i, j: sympy.Integer(1))
    assert system.rank() == 1 < degree
    with pytest.raises(ZeroDivisionError):
        mpmath.pade([mpmath.mpf(1)] * (2 * degree + 1), degree, degree)


@pytest.mark.parametrize("digits", [15, 20, 30])
def test_numerator_and_denominator_share_a_polynomial_that_rounding_chose(digits):
    p, q = map(np.array, published_pade(50, digits))
    assert p.shape == q.shape == (51,)
    assert p[0] == q[0] == 1
    np.testing.assert_allclose(np.convolve(p, [1, -1])[:51], q, rtol=0, atol=tolerance(torch.float64) * np.abs(q).max())
    assert all(np.abs(p - np.array(published_pade(50, other)[0])).max() > 0.1 for other in {15, 20, 30} - {digits})


@pytest.mark.parametrize("digits", [15, 20, 30])
def test_the_approximant_is_the_series_itself_until_close_to_one(digits):
    r = torch.cat([torch.linspace(0, 0.99, 100), torch.tensor([0.995, 0.999])]).double()
    p, q = polynomials(r, published_pade(50, digits))
    torch.testing.assert_close(p / q, 1 / (1 - r), rtol=1e-9, atol=0)


def test_the_approximant_at_one_depends_on_the_digits_alone():
    """In exact arithmetic of the coefficients: finite, though the series has no sum, and no two values alike."""
    values = []
    for digits in (15, 20, 30):
        p, q = (sum(map(Fraction, part)) for part in published_pade(50, digits))
        values.append(float(p / q))
    assert min(map(abs, values)) > 1e14
    assert len({value > 0 for value in values}) == 2
    assert all(abs(one / other - 1) > 0.1 for one in values for other in values if one is not other)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize(
    ("spectrum", "dtype", "tolerance"),
    [
        ("separated", torch.float64, 1e-11),
        ("separated", torch.float32, 1e-4),
        ("close", torch.float64, 1e-9),
        ("condition-1e14", torch.float64, 1e-13),
    ],
    indirect=["spectrum"],
)
def test_pade_is_the_quotient_of_its_polynomials(function, spectrum, dtype, tolerance, in_mpmath, pairwise):
    eigenvalues, f = torch.tensor(spectrum, dtype=dtype), in_mpmath(function)
    p, q = ([mpmath.mpf(c) for c in reversed(part)] for part in published_pade(50, 20))

    def definition(a, b):
        return (f(a) - f(b)) * mpmath.polyval(p, b / a) / mpmath.polyval(q, b / a) / a

    kernel, off_diagonal = Pade().kernel(function, eigenvalues).double(), ~torch.eye(5, dtype=torch.bool)
    rounding = pairwise(eigenvalues, lambda a, b: (abs(f(a)) + abs(f(b))) / (a - b) if a > b else 0)
    assert ((kernel - pairwise(eigenvalues, definition)).abs() <= tolerance * rounding)[off_diagonal].all()


@pytest.mark.parametrize("function", RESTRICTED)
@pytest.mark.parametrize(("spectrum", "tolerance"), [("separated", 1e-12), ("close", 1e-9)], indirect=["spectrum"])
@pytest.mark.parametrize("digits", [15, 20, 30])
def test_pade_is_plain_svd_at_a_distance(
    function, spectrum, tolerance, digits, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    plain = matrix_gradient(matrix, function, PlainSVD(), gradient)
    assert relative_error(matrix_gradient(matrix, function, Pade(50, digits), gradient), plain) < tolerance


def test_pade_is_not_plain_svd_next_to_a_tie():
    eigenvalues = torch.tensor([2.0, 2.0 * (1 - 1e-14)], dtype=torch.float64)
    pade, plain = (method.kernel(Sqrt(), eigenvalues)[0, 1].item() for method in (Pade(), PlainSVD()))
    assert abs(pade / plain - 1) > 1e-3


def test_the_digits_decide_next_to_a_tie():
    eigenvalues = torch.tensor([2.0, 2.0 * (1 - 1e-14)], dtype=torch.float64)
    assert len({Pade(50, digits).kernel(Sqrt(), eigenvalues)[0, 1].item() for digits in (15, 20, 30)}) == 3


def test_pade_of_degree_one_is_plain_svd_everywhere_but_at_a_tie():
    """[1/1] has the one solution 1 / (1 - r)."""
    eigenvalues = torch.tensor([2.0, 2.0 * (1 - 1e-6), 1.0, 1e-3], dtype=torch.float64)
    pade, plain = (method.kernel(InverseSqrt(), eigenvalues) for method in (Pade(degree=1), PlainSVD()))
    torch.testing.assert_close(pade, plain, rtol=1e-9, atol=0)


@pytest.mark.parametrize("degree", [2, 10])
def test_pade_of_a_degree_whose_system_has_no_solution_is_refused(degree):
    with pytest.raises(ValueError, match=f"^degree={degree}: its system is singular to 20 digits; take a larger degree$"):
        Pade(degree)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 51])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_polynomials_are_those_of_numpy(length, shape, dtype, tolerance):
    generator = torch.Generator().manual_seed(length)
    coefficients = torch.randn(2, length, dtype=torch.float64, generator=generator)
    x = (torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1).to(dtype)
    values = torch.stack(polynomials(x, coefficients.tolist()))
    assert values.shape == (2, *shape) and values.dtype == dtype
    expected = np.polynomial.polynomial.polyval(x.double().numpy(), coefficients.numpy().T)
    size = np.polynomial.polynomial.polyval(x.double().abs().numpy(), coefficients.abs().numpy().T)
    assert (abs(values.double().numpy() - expected) <= tolerance * size).all()
