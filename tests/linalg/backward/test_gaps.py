"""Gradients through the eigenvectors against their definition, term by term at 60 digits."""

from itertools import product

import mpmath
import pytest
import torch
from torch.autograd import gradcheck

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact, PlainSVD, TopN, Truncated
from spectral_repro.linalg.functions import Exp, InverseSqrt, Log, One, Restricted, Sqrt
from spectral_repro.linalg.selection import Leading
from tests.tolerance import condition_of, tolerance

FUNCTIONS = [InverseSqrt(), Sqrt(), Log(), Exp(-1.0)]
RESTRICTED = [InverseSqrt(), Restricted(InverseSqrt(), Leading(3)), Restricted(One(), Leading(3))]

each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture
def of_diagonal(random_gradient, matrix_gradient):
    """The kernel that a method applies to a diagonal matrix (d, d), read off its gradient."""

    def read(eigenvalues, function, backward):
        gradient = random_gradient(len(eigenvalues)).to(eigenvalues)
        result = matrix_gradient(torch.diag(eigenvalues), function, backward, gradient)
        return result.double() / ((gradient + gradient.T) / 2).double()

    return read


# Plain SVD


@pytest.mark.parametrize("function", RESTRICTED)
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_plain_svd_equals_exact_where_eigenvalues_are_apart(
    function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    exact = matrix_gradient(matrix, function, Exact(), gradient)
    result = matrix_gradient(matrix, function, PlainSVD(), gradient)
    assert relative_error(result, exact) < tolerance(torch.float64, 25, condition_of(spectrum))


def test_plain_svd_is_nan_at_a_tie(random_gradient, matrix_gradient):
    matrix = torch.diag(torch.tensor([3.0, 2.0, 2.0], dtype=torch.float64))
    assert matrix_gradient(matrix, InverseSqrt(), PlainSVD(), random_gradient(3)).isnan().any()


@pytest.mark.parametrize("kept", [5, 3])
def test_plain_svd_is_what_autograd_makes_of_eigh(kept, symmetric, random_gradient, matrix_gradient, relative_error):
    """float32, with eigenvalues so close that rounding shows: the same order of error, far above that of the exact kernel."""
    eigenvalues = (4.0, 4.0 * (1 - 1e-6), 3.0, 2.0, 1.0)
    matrix, gradient = symmetric(eigenvalues).float(), random_gradient(5).float()
    function = Restricted(InverseSqrt(), Leading(kept))
    leaf = matrix.clone().requires_grad_()
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh((leaf + leaf.T) / 2))
    ((vectors[:, :kept] * values[:kept].rsqrt()) @ vectors[:, :kept].T).backward(gradient)

    exact = matrix_gradient(matrix.double(), function, Exact(), gradient.double())
    plain = relative_error(matrix_gradient(matrix, function, PlainSVD(), gradient).double(), exact)
    assert plain > 10 * relative_error(matrix_gradient(matrix, function, Exact(), gradient).double(), exact)
    assert plain / 10 < relative_error(leaf.grad.double(), exact) < 10 * plain


@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_plain_svd_passes_the_float64_check_of_finite_differences(spectrum, symmetric):
    matrix = symmetric(spectrum).requires_grad_()
    assert gradcheck(lambda a: matrix_function((a + a.mT) / 2, Restricted(InverseSqrt(), Leading(3)), PlainSVD())[0], (matrix,))


def test_plain_svd_is_not_finite_at_a_tie_across_the_cut(random_gradient, matrix_gradient):
    matrix = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    gradient = matrix_gradient(matrix, Restricted(One(), Leading(1)), PlainSVD(), random_gradient(3).float())
    assert not gradient[:2, :2].isfinite().all()


@pytest.mark.parametrize("gap", [1e-4, 1e-7, 1e-10])
def test_plain_svd_divides_rounding_by_the_gap(gap, symmetric, random_gradient, matrix_gradient):
    matrix, gradient = symmetric((2.0, 2.0 - gap, 1.0)), random_gradient(3)
    error = (
        (matrix_gradient(matrix, Sqrt(), PlainSVD(), gradient) - matrix_gradient(matrix, Sqrt(), Exact(), gradient)).abs().max()
    )
    rounding = torch.finfo(torch.float64).eps * gradient.norm() * 2**0.5 / gap
    assert 1e-3 < error / rounding < 10


# Truncated


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize("limit", [0.5, 1e3, 1e10])
def test_truncated_cuts_off_every_reciprocal_gap(function, limit, spectra, of_diagonal, in_mpmath, pairwise):
    f = in_mpmath(function)

    def definition(a, b):
        return (f(a) - f(b)) * min(1 / (a - b), limit) if a > b else 0

    for spectrum, dtype in product(("separated", "close", "tied", "condition-1e14"), (torch.float32, torch.float64)):
        eigenvalues = torch.tensor(spectra[spectrum], dtype=dtype)
        kernel, expected = of_diagonal(eigenvalues, function, Truncated(limit)), pairwise(eigenvalues, definition)
        reciprocals = pairwise(eigenvalues, lambda a, b: min(1 / (a - b), limit) if a > b else 0)
        values = function(eigenvalues).double().abs()
        rounding = 8 * torch.finfo(dtype).eps * reciprocals * (values[:, None] + values)
        diagonal = torch.eye(5, dtype=torch.bool)
        assert ((kernel - expected).abs() <= rounding)[~diagonal].all()
        torch.testing.assert_close(kernel.diagonal(), function.derivative(eigenvalues).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("function", RESTRICTED)
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_truncated_is_plain_svd_where_no_gap_is_below_the_limit(
    function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    plain = matrix_gradient(matrix, function, PlainSVD(), gradient)
    smallest = 0.4  # from 0.7 to 0.3
    assert torch.equal(matrix_gradient(matrix, function, Truncated(1.01 / smallest), gradient), plain)
    errors = [relative_error(matrix_gradient(matrix, function, Truncated(k), gradient), plain) for k in (0.1, 0.3, 0.5)]
    assert errors[0] > errors[1] > errors[2] > 0.01


def test_truncated_loses_gradient_in_proportion_to_a_gap_below_the_limit(of_diagonal):
    for share in (1e-3, 0.1, 0.5):
        eigenvalues = torch.tensor([2.0, 2.0 - share / 1e3, 1.0], dtype=torch.float64)
        kernel, exact = (of_diagonal(eigenvalues, Sqrt(), method) for method in (Truncated(1e3), Exact()))
        assert kernel[0, 1] / exact[0, 1] == pytest.approx(share, rel=1e-6)
        torch.testing.assert_close(kernel[:, 2], exact[:, 2])


def test_truncated_passes_nothing_between_tied_directions(random_gradient, matrix_gradient):
    """The published code has the same sign on both sides of the diagonal there: 4e10 times too much."""
    matrix, gradient = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)), random_gradient(3)
    result = matrix_gradient(matrix, InverseSqrt(), Truncated(), gradient)
    exact = matrix_gradient(matrix, InverseSqrt(), Exact(), gradient)
    assert result[0, 1] == result[1, 0] == 0
    result[0, 1] = result[1, 0] = exact[0, 1]
    torch.testing.assert_close(result, exact)


@pytest.mark.parametrize("gap", [1e-7, 1e-10, 1e-13])
def test_truncated_multiplies_rounding_by_the_limit_at_most(gap, symmetric, random_gradient, matrix_gradient):
    limit, gradient = 1e4, random_gradient(3)
    matrix = symmetric((2.0, 2.0 - gap, 1.0))
    basis = torch.linalg.eigh(matrix).eigenvectors.flip(-1)
    rotated = basis.T @ (gradient + gradient.T) @ basis / 2
    exact = matrix_gradient(matrix, Sqrt(), Exact(), gradient)
    lost = torch.zeros(3, 3, dtype=torch.float64)
    lost[0, 1] = lost[1, 0] = (1 - limit * gap) / (2**0.5 + (2 - gap) ** 0.5) * rotated[0, 1]
    rounding = torch.finfo(torch.float64).eps * gradient.norm() * 2**0.5 * limit
    error = (matrix_gradient(matrix, Sqrt(), Truncated(limit), gradient) - (exact - basis @ lost @ basis.T)).abs().max()
    assert error < 10 * rounding
    assert (matrix_gradient(matrix, Sqrt(), PlainSVD(), gradient) - exact).abs().max() > 10 * error


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_truncated_names_a_wrong_argument(limit):
    with pytest.raises(ValueError, match=f"limit={limit}: must be a number > 0"):
        Truncated(limit)


# Top n


def top_n_loop(eigenvalues, f, n):
    """d f(A~) with the eigenvalues after the n-th at 0 and f = 0 there, pair by pair, through the eigenvectors alone."""
    counted = [mpmath.mpf(x) if i < n else mpmath.mpf(0) for i, x in enumerate(eigenvalues.tolist())]
    values = [f(x) if i < n else mpmath.mpf(0) for i, x in enumerate(counted)]
    kernel = torch.zeros(len(counted), len(counted), dtype=torch.float64)
    with mpmath.workdps(60):
        for i, j in ((i, j) for i in range(len(counted)) for j in range(len(counted)) if i != j and min(i, j) < n):
            kernel[i, j] = float((values[i] - values[j]) / (counted[i] - counted[j]))
        for i in range(n):
            kernel[i, i] = float(mpmath.diff(f, counted[i]))
    return kernel


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_top_n_puts_the_others_to_zero(function, spectra, of_diagonal, in_mpmath):
    for spectrum, dtype, n in product(("separated", "condition-1e14"), (torch.float32, torch.float64), (1, 2, 4)):
        eigenvalues = torch.tensor(spectra[spectrum], dtype=dtype)
        expected = top_n_loop(eigenvalues, in_mpmath(function), n)
        values = function(eigenvalues).where(torch.arange(5) < n, 0).double().abs()
        counted = eigenvalues.where(torch.arange(5) < n, 0).double()
        gaps = (counted[:, None] - counted).abs()
        rounding = 8 * torch.finfo(dtype).eps * (expected.abs() + (values[:, None] + values) / gaps.where(gaps > 0, torch.inf))
        assert ((of_diagonal(eigenvalues, function, TopN(n)) - expected).abs() <= rounding).all()
        value, _ = matrix_function(torch.diag(eigenvalues), function, TopN(n))
        torch.testing.assert_close(value, torch.diag(torch.where(torch.arange(5) < n, function(eigenvalues), 0)))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_top_n_is_what_autograd_makes_of_zeroed_eigenvalues(
    n, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    """Of eigenvectors that answer as those of a matrix whose small eigenvalues are 0: dA seen in their frame."""
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    vectors = torch.linalg.eigh(matrix).eigenvectors.flip(-1)
    kept = torch.arange(5) < n
    zeroed = vectors * torch.where(kept, torch.tensor(spectrum), 0.0) @ vectors.T
    change = torch.zeros_like(matrix).requires_grad_()
    # to first order: V dV with dV_ij = (V^T dA V)_ij / (lambda~_j - lambda~_i)
    rotated = vectors.T @ change @ vectors
    counted = torch.linalg.eigvalsh(zeroed).flip(-1)
    gaps = counted - counted[:, None]
    allowed = (kept[:, None] | kept) & ~torch.eye(5, dtype=torch.bool)
    turned = vectors @ (torch.eye(5) + torch.where(allowed, rotated, 0) / torch.where(allowed, gaps, 1))
    values = torch.where(kept, (torch.tensor(spectrum) + rotated.diagonal()).rsqrt(), 0)
    (turned * values @ turned.T).backward(gradient)
    result = matrix_gradient(matrix, InverseSqrt(), TopN(n), gradient)
    assert relative_error(result, (change.grad + change.grad.T) / 2) < tolerance(torch.float64, 25, condition_of(spectrum))


@pytest.mark.parametrize("n", [5, 6, 100])
@pytest.mark.parametrize("spectrum", ["separated", "close", "condition-1e14"], indirect=True)
def test_top_n_of_all_is_plain_svd(n, spectrum, random_gradient, matrix_gradient):
    matrix, gradient = torch.diag(torch.tensor(spectrum, dtype=torch.float64)), random_gradient(5)
    result = matrix_gradient(matrix, Sqrt(), TopN(n), gradient)
    assert torch.equal(result, matrix_gradient(matrix, Sqrt(), PlainSVD(), gradient))
    assert torch.equal(matrix_function(matrix, Sqrt(), TopN(n))[0], matrix_function(matrix, Sqrt())[0])


@pytest.mark.parametrize(("dropped", "least", "most"), [(1e-12, 0, 1e-10), (1.5, 0.1, 10)])
def test_top_n_is_exact_only_where_the_dropped_are_negligible(
    dropped, least, most, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric((4.0, 3.0, 2.0, dropped, dropped / 2)), random_gradient(5)
    exact = matrix_gradient(matrix, Restricted(Sqrt(), Leading(3)), Exact(), gradient)
    assert least <= relative_error(matrix_gradient(matrix, Sqrt(), TopN(3), gradient), exact) < most


@pytest.mark.parametrize("spectrum", ["tied", "rank-deficient"], indirect=True)
def test_top_n_is_finite_at_ties_across_its_cut_and_among_the_dropped_but_not_among_the_kept(
    spectrum, random_gradient, matrix_gradient
):
    matrix, gradient = torch.diag(torch.tensor(spectrum, dtype=torch.float64)), random_gradient(5)
    assert matrix_gradient(matrix, Sqrt(), TopN(1), gradient).isfinite().all()
    assert not matrix_gradient(matrix, Sqrt(), TopN(5), gradient).isfinite().all()


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", True, None])
def test_top_n_names_a_wrong_argument(n):
    with pytest.raises(ValueError, match=f"n={n!r}: must be a whole number >= 1"):
        TopN(n)


# The kernel


@pytest.mark.parametrize("backward", [PlainSVD(), Truncated(0.7), TopN(3), TopN(9)], ids=str)
@pytest.mark.parametrize("function", [Sqrt(), InverseSqrt(), Exp(-1.0)], ids=str)
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_the_chain_comes_to_the_kernel(
    backward, function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    vectors = torch.linalg.eigh(matrix).eigenvectors.flip(-1)
    kernel = backward.kernel(backward.applied(function), torch.tensor(spectrum, dtype=torch.float64))
    assert torch.equal(kernel, kernel.mT)
    rotated = vectors.T @ (gradient + gradient.T) @ vectors / 2
    result = matrix_gradient(matrix, function, backward, gradient)
    expected = vectors @ (kernel * rotated) @ vectors.T
    assert relative_error(result, expected) < tolerance(torch.float64, 25, condition_of(spectrum))
