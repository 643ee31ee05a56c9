"""Square roots by products and solves against eigenvalues, and the approximants that they are."""

from functools import partial

import mpmath
import pytest
import torch
from torch.autograd import gradcheck

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.functions import InverseSqrt, Sqrt
from spectral_repro.linalg.roots import mpa, mtp, newton_schulz
from tests.tolerance import assert_near, condition_of, tolerance

ROOTS = {"newton_schulz": newton_schulz, "mpa": mpa, "mtp": mtp}
ORDERS = {"newton_schulz": 14, "mpa": 14, "mtp": 120}  # enough for the spectra below

each_root = pytest.mark.parametrize("name", ROOTS)
each_sign = pytest.mark.parametrize("inverse", [False, True], ids=["root", "inverse"])


def converged(name):
    return partial(ROOTS[name], **{"iterations" if name == "newton_schulz" else "degree": ORDERS[name]})


def eigenvalue_of(root, a, order, inverse, normalise):
    """What becomes of the eigenvalue a of a matrix whose trace or Frobenius norm is 1."""
    rest = 1 - a if normalise == "trace" else (1 - a**2) ** 0.5
    return root(torch.diag(torch.tensor([a, rest], dtype=torch.float64)), order, inverse)[0, 0].item()


@each_root
@each_sign
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_root_that_the_eigenvalues_give(name, inverse, shape, dtype, symmetric):
    count = torch.Size(shape).numel()
    matrix = torch.stack([symmetric((1.0, 0.9, 0.7, 0.5), seed) for seed in range(count)]).view(*shape, 4, 4).to(dtype)
    result = converged(name)(matrix, inverse=inverse)
    assert result.dtype == dtype
    expected, _ = matrix_function(matrix.double(), InverseSqrt() if inverse else Sqrt())
    assert_near(result.double(), expected, terms=4 * ORDERS[name], condition=2, dtype=dtype)


@each_root
@each_sign
@pytest.mark.parametrize("size", [1, 3])
def test_a_multiple_of_the_identity_gives_one(name, inverse, size):
    matrix = 9 * torch.eye(size, dtype=torch.float64)
    expected = (1 / 3 if inverse else 3) * torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(converged(name)(matrix, inverse=inverse), expected)


@each_root
@each_sign
def test_every_matrix_of_a_batch_is_normalised_by_itself(name, inverse, symmetric, relative_error):
    scales, eigenvalues = (1e-8, 1.0, 1e8), (3.0, 1.0, 0.5, 0.1)
    rounding = tolerance(torch.float64, terms=4 * 20, condition=condition_of(eigenvalues, gaps=False))  # some 20 products
    matrices = [scale * symmetric(eigenvalues, seed) for seed, scale in enumerate(scales)]
    for result, matrix, scale in zip(ROOTS[name](torch.stack(matrices), inverse=inverse), matrices, scales, strict=True):
        assert relative_error(result, ROOTS[name](matrix, inverse=inverse)) < rounding
        scaled = scale ** (-0.5 if inverse else 0.5) * ROOTS[name](matrix / scale, inverse=inverse)
        assert relative_error(result, scaled) < rounding


@each_root
@each_sign
@pytest.mark.parametrize("order", [1, 4])
def test_its_gradient_agrees_with_finite_differences(name, inverse, order, symmetric):
    batch = torch.stack([symmetric((2.0, 1.0, 0.3)), symmetric((1.0, 1.0, 0.5), 1)]).requires_grad_()
    assert gradcheck(lambda matrix: ROOTS[name](matrix, order, inverse), (batch,), fast_mode=True)


# Newton-Schulz


@pytest.mark.parametrize("iterations", [2, 5, 9])
def test_newton_schulz_is_the_published_loop(iterations, symmetric):
    """iSQRT-COV as its authors write it, the first and the last step by themselves."""
    matrix, identity = symmetric((3.0, 1.0, 0.5, 0.1)), torch.eye(4, dtype=torch.float64)
    normalised = matrix / matrix.trace()
    z = 0.5 * (3 * identity - normalised)
    y = normalised @ z
    for _ in range(iterations - 2):
        step = 0.5 * (3 * identity - z @ y)
        y, z = y @ step, step @ z
    published = 0.5 * y @ (3 * identity - z @ y) * matrix.trace().sqrt()
    assert_near(newton_schulz(matrix, iterations), published, terms=4 * 3 * iterations, condition=3.0 / 0.1)


@each_sign
@pytest.mark.parametrize("iterations", [4, 7, 10])
def test_newton_schulz_converges_for_eigenvalues_above_four_ninths_to_the_iterations(iterations, inverse):
    def error(multiple):
        a = multiple * (4 / 9) ** iterations
        return abs(eigenvalue_of(newton_schulz, a, iterations, inverse, "trace") / a ** (-0.5 if inverse else 0.5) - 1)

    assert error(10) < 1e-3
    assert 0.1 < error(1) < 0.3
    assert error(0.01) > 0.8


@each_sign
def test_newton_schulz_doubles_its_digits_in_every_step(inverse):
    exact = 0.3 ** (-0.5 if inverse else 0.5)
    errors = [abs(eigenvalue_of(newton_schulz, 0.3, k, inverse, "trace") / exact - 1) for k in range(3, 6)]
    assert errors[1] < 2 * errors[0] ** 2 and errors[2] < max(2 * errors[1] ** 2, 1e-15)


# Pade and Taylor


def taylor_coefficients(exponent, count):
    """Of (1 - z)^exponent: exact for +-1/2, whose coefficients are dyadic."""
    return [(-1) ** k * mpmath.binomial(exponent, k) for k in range(count)]


@each_sign
@pytest.mark.parametrize("degree", [1, 2, 3, 5, 8])
def test_mpa_is_the_diagonal_pade_approximant(degree, inverse):
    """The one rational function of degree [n/n] that agrees with (1 - z)^(+-1/2) to order 2 n."""
    with mpmath.workdps(60):
        p, q = mpmath.pade(taylor_coefficients(mpmath.mpf(-0.5 if inverse else 0.5), 2 * degree + 1), degree, degree)
        for a in (0.003, 0.1, 0.4, 0.8, 0.999):
            z = 1 - mpmath.mpf(a)
            approximant = mpmath.polyval(p[::-1], z) / mpmath.polyval(q[::-1], z)
            assert eigenvalue_of(mpa, a, degree, inverse, "norm") == pytest.approx(float(approximant), rel=1e-12)


@each_sign
def test_mpa_of_degree_five_is_good_to_a_percent_above_six_hundredths_of_the_norm(inverse):
    def error(a):
        return abs(eigenvalue_of(mpa, a, 5, inverse, "norm") / a ** (-0.5 if inverse else 0.5) - 1)

    assert error(0.06) < 0.01 < error(0.05)


@pytest.mark.parametrize("degree", [1, 3, 5, 10])
@pytest.mark.parametrize("a", [0.01, 0.1, 0.5])
def test_mpa_is_off_by_the_factor_that_its_docstring_says(degree, a):
    ratio = ((1 - a**0.5) / (1 + a**0.5)) ** (2 * degree + 1)
    factor = eigenvalue_of(mpa, a, degree, False, "norm") / a**0.5
    assert factor == pytest.approx((1 + ratio) / (1 - ratio), rel=1e-12)


@each_sign
def test_mpa_of_a_high_degree_stays_accurate(inverse):
    """Coefficients beyond the 64-bit integers."""
    exact = 0.01 ** (-0.5 if inverse else 0.5)
    assert eigenvalue_of(mpa, 0.01, 50, inverse, "norm") == pytest.approx(exact, rel=1e-8)


@each_sign
def test_mpa_loses_to_rounding_what_a_high_degree_gains(inverse, symmetric, relative_error):
    matrix = symmetric((4.0, 3.0, 2.0, 0.7, 0.3))
    exact, _ = matrix_function(matrix, InverseSqrt() if inverse else Sqrt())
    errors = {degree: relative_error(mpa(matrix.float(), degree, inverse).double(), exact) for degree in (2, 5, 8, 16, 24)}
    assert errors[2] > errors[5] > errors[8] < errors[16] < errors[24]
    for degree, error in errors.items():
        truncated = relative_error(mpa(matrix, degree, inverse), exact)
        assert error < truncated + 4**degree * torch.finfo(torch.float32).eps


@each_sign
@pytest.mark.parametrize("degree", [1, 2, 5, 11, 40])
def test_mtp_is_the_taylor_polynomial(degree, inverse):
    coefficients = taylor_coefficients(-0.5 if inverse else 0.5, degree + 1)
    for a in (0.003, 0.1, 0.4, 0.8, 0.999):
        polynomial = mpmath.polyval(coefficients[::-1], 1 - mpmath.mpf(a))
        assert eigenvalue_of(mtp, a, degree, inverse, "norm") == pytest.approx(float(polynomial), rel=1e-12)


@pytest.mark.parametrize("degree", [1, 5, 11, 20])
@pytest.mark.parametrize("a", [1e-3, 0.03, 0.3, 0.6])
def test_mtp_is_off_by_no_more_than_its_docstring_says(degree, a):
    bound = (1 - a) ** (degree + 1) + 1e-14
    assert 0 <= eigenvalue_of(mtp, a, degree, False, "norm") - a**0.5 + 1e-14 < bound
    shortfall = 1 - eigenvalue_of(mtp, a, degree, True, "norm") * a**0.5
    assert 0.05 * bound < shortfall + 1e-14 < bound
