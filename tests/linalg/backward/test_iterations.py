"""Gradients by Newton-Schulz and Lyapunov iterations against the iterations on matrices, and against what they tend to."""

from itertools import pairwise as neighbours

import numpy as np
import pytest
import scipy.linalg
import torch

from spectral_repro.layers import PCADenoising, ZCAWhitening
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact, Lyapunov, NewtonSchulz
from spectral_repro.linalg.functions import InverseSqrt, Log, One, Power, Restricted, Sqrt
from spectral_repro.linalg.roots import mpa, mtp, newton_schulz
from spectral_repro.linalg.selection import Leading
from tests.tolerance import assert_near, condition_of, tolerance

ROOTS = {"mpa": mpa, "mtp": mtp, "newton_schulz": newton_schulz}

each_function = pytest.mark.parametrize("function", [Sqrt(), InverseSqrt()], ids=str)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def rounding_of(spectrum, dtype=torch.float64):
    """What some 20 products of 5 x 5 matrices with these eigenvalues may differ by."""
    return tolerance(dtype, terms=5 * 20, condition=condition_of(spectrum, gaps=False))


def gradient_of_iterations(matrix, iterations, function, gradient):
    """By autograd through the products of `newton_schulz`, its trace included; the symmetric part."""
    matrix = matrix.clone().requires_grad_()
    newton_schulz(matrix, iterations, isinstance(function, InverseSqrt)).backward(gradient)
    return (matrix.grad + matrix.grad.mT) / 2


def lyapunov_iteration(root, grad_output, iterations):
    """X of R X + X R = C by the iteration of the docstring, on matrices in NumPy."""
    norm = np.linalg.norm(root)
    b, c = root / norm, grad_output / norm
    for _ in range(iterations):
        b, c = (3 * b - b @ b @ b) / 2, (3 * c - b @ b @ c + b @ c @ b - c @ b @ b) / 2
    return c / 2


def right_hand_side(function, gradient, inverse_root):
    """G of the Lyapunov equation: that of F, or -F G F for the inverse root F."""
    symmetric = ((gradient + gradient.mT) / 2).numpy()
    return symmetric if isinstance(function, Sqrt) else -inverse_root @ symmetric @ inverse_root


# Newton-Schulz


@each_dtype
@each_function
@pytest.mark.parametrize("iterations", [1, 2, 5, 10, 25])
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied"], indirect=True)
def test_the_newton_schulz_kernel_is_the_gradient_of_its_iterations(
    function, iterations, spectrum, dtype, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    result = matrix_gradient(matrix.to(dtype), function, NewtonSchulz(iterations), gradient.to(dtype))
    assert result.dtype == dtype
    expected = gradient_of_iterations(matrix, iterations, function, gradient)
    assert relative_error(result.double(), expected) < rounding_of(spectrum, dtype)


@each_function
@pytest.mark.parametrize("iterations", [3, 10])
@pytest.mark.parametrize("spectrum", ["rank-deficient", "condition-1e14"], indirect=True)
def test_the_newton_schulz_kernel_is_that_gradient_where_eigenvalues_have_not_converged(
    function, iterations, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient, identity = symmetric(spectrum), random_gradient(5), torch.eye(5, dtype=torch.float64)
    result = matrix_gradient(matrix, function, NewtonSchulz(iterations), gradient, shift=1e-13)
    expected = gradient_of_iterations(matrix + 1e-13 * identity, iterations, function, gradient)
    assert relative_error(result, expected) < 1e-9


@each_function
def test_the_gradient_includes_the_trace(function, symmetric, matrix_gradient):
    """For an unconverged root tr(G dF) along the identity is not the sum of the slopes h'(a_i)."""
    matrix, identity = symmetric((4.0, 1.0, 0.1)), torch.eye(3, dtype=torch.float64)
    method, step = NewtonSchulz(2), 1e-6
    along = [newton_schulz(matrix + sign * step * identity, 2, isinstance(function, InverseSqrt)).trace() for sign in (1, -1)]
    slope = matrix_gradient(matrix, function, method, identity).trace()
    assert slope.item() == pytest.approx((along[0] - along[1]).item() / (2 * step), rel=1e-7)
    without = method.kernel(function, torch.tensor([4.0, 1.0, 0.1], dtype=torch.float64)).trace()
    assert abs(without / slope - 1) > 0.1


@each_function
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_newton_schulz_tends_to_exact(function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    exact = matrix_gradient(matrix, function, Exact(), gradient)
    errors = [relative_error(matrix_gradient(matrix, function, NewtonSchulz(k), gradient), exact) for k in (3, 6, 7, 8, 9)]
    assert all(more > fewer for more, fewer in neighbours(errors))
    assert errors[0] > 0.1
    assert relative_error(matrix_gradient(matrix, function, NewtonSchulz(14), gradient), exact) < rounding_of(spectrum)


@pytest.mark.parametrize("iterations", [1, 5, 10])
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied", "condition-1e14", "rank-deficient"], indirect=True)
def test_the_newton_schulz_kernel_is_bounded(iterations, spectrum):
    """No eigenvalue, gap or rank makes it larger than (3/2)^K / sqrt(tr A)."""
    eigenvalues = torch.tensor(spectrum, dtype=torch.float64)
    kernel = NewtonSchulz(iterations).kernel(Sqrt(), eigenvalues)
    assert (kernel.abs() <= 1.5**iterations / eigenvalues.sum().sqrt() * (1 + 1e-12)).all()
    assert NewtonSchulz(iterations).kernel(InverseSqrt(), eigenvalues).isfinite().all()


@pytest.mark.parametrize("iterations", [8, 12])
def test_newton_schulz_passes_less_between_eigenvalues_below_its_reach(iterations, exact_kernel):
    """Two eigenvalues of about c (4/9)^K beside a large one."""
    for multiple, least, most in ((30, 0.999, 1.001), (0.1, 0.5, 0.7), (0.01, 0, 0.3)):
        small = multiple * (4 / 9) ** iterations
        eigenvalues = torch.tensor([1 - 2 * small, 1.1 * small, 0.9 * small], dtype=torch.float64)
        share = NewtonSchulz(iterations).kernel(Sqrt(), eigenvalues)[1, 2] / exact_kernel(eigenvalues, Sqrt())[1, 2]
        assert least <= share <= most


@each_function
@pytest.mark.parametrize("iterations", [2, 20])
@pytest.mark.parametrize("spectrum", ["separated", "tied"], indirect=True)
def test_newton_schulz_forward_is_the_iteration_itself(
    function, iterations, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient, method = symmetric(spectrum), random_gradient(5), NewtonSchulz(iterations, forward="newton_schulz")
    result, eigenvalues = matrix_function(matrix, function, method)
    assert torch.equal(result, newton_schulz(matrix, iterations, isinstance(function, InverseSqrt)))
    assert eigenvalues.shape == (5,) and eigenvalues.isnan().all()
    exact = matrix_function(matrix, function)[0]
    assert relative_error(matrix_function(matrix, function, NewtonSchulz(iterations))[0], exact) < rounding_of(spectrum)
    assert (relative_error(result, exact) < rounding_of(spectrum)) == (iterations == 20)
    symmetric_gradient = (gradient + gradient.T) / 2
    by_products = matrix_gradient(matrix, function, method, symmetric_gradient)
    by_kernel = matrix_gradient(matrix, function, NewtonSchulz(iterations), symmetric_gradient)
    assert relative_error(by_products, by_kernel) < rounding_of(spectrum)


# Lyapunov


@each_dtype
@each_function
@pytest.mark.parametrize("iterations", [1, 3, 8, 20])
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied"], indirect=True)
def test_the_lyapunov_kernel_is_the_iteration_on_matrices(
    function, iterations, spectrum, dtype, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    root = scipy.linalg.sqrtm(matrix.numpy())
    grad_output = right_hand_side(function, gradient, np.linalg.inv(root))
    expected = torch.from_numpy(lyapunov_iteration(root, grad_output, iterations))
    result = matrix_gradient(matrix.to(dtype), function, Lyapunov(iterations), gradient.to(dtype))
    assert result.dtype == dtype
    assert relative_error(result.double(), expected) < rounding_of(spectrum, dtype)


@each_function
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied"], indirect=True)
def test_lyapunov_tends_to_the_solution_of_its_equation(
    function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    root = scipy.linalg.sqrtm(matrix.numpy())
    solution = scipy.linalg.solve_continuous_lyapunov(root, right_hand_side(function, gradient, np.linalg.inv(root)))
    errors = [
        relative_error(matrix_gradient(matrix, function, Lyapunov(k), gradient), torch.from_numpy(solution))
        for k in range(1, 6)
    ]
    assert all(more > fewer for more, fewer in neighbours(errors))
    assert errors[0] > 0.1
    for method in (Lyapunov(14), Exact()):
        found = matrix_gradient(matrix, function, method, gradient)
        assert relative_error(found, torch.from_numpy(solution)) < rounding_of(spectrum)


@pytest.mark.parametrize("iterations", [1, 8, 20])
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied", "condition-1e14", "rank-deficient"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lyapunov_kernel_is_the_product_of_its_docstring_and_bounded(iterations, spectrum, dtype):
    eigenvalues = torch.tensor(spectrum, dtype=dtype)
    kernel, norm = Lyapunov(iterations).kernel(Sqrt(), eigenvalues), sum(spectrum) ** 0.5
    b, expected = [x**0.5 / norm for x in spectrum], np.full((5, 5), 0.5 / norm)
    for _ in range(iterations):
        expected *= [[(3 - x * x + x * y - y * y) / 2 for y in b] for x in b]
        b = [(3 * x - x**3) / 2 for x in b]
    np.testing.assert_allclose(kernel.double(), expected, rtol=100 * torch.finfo(dtype).eps)
    assert (kernel <= 1.5**iterations / (2 * norm) * (1 + 1e-5)).all()


@pytest.mark.parametrize("iterations", [4, 8, 12])
def test_lyapunov_is_exact_where_roots_add_up_to_enough(iterations, exact_kernel):
    """b_i + b_j against (2/3)^K, b the roots over their norm."""
    for multiple, least, most in ((10, 0.99, 1.01), (0.1, 0, 0.2)):
        b = multiple * (2 / 3) ** iterations / 2
        if b < 0.5:
            eigenvalues = torch.tensor([1 - 2 * b**2, b**2, b**2], dtype=torch.float64)
            share = Lyapunov(iterations).kernel(Sqrt(), eigenvalues)[1, 2] / exact_kernel(eigenvalues, Sqrt())[1, 2]
            assert least <= share <= most


@each_function
@pytest.mark.parametrize("iterations", [2, 8])
@pytest.mark.parametrize("order", [None, 2])
@pytest.mark.parametrize("forward", ROOTS)
@pytest.mark.parametrize("spectrum", ["separated", "tied"], indirect=True)
def test_lyapunov_runs_on_the_roots_of_its_forward(
    function, iterations, order, forward, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient, inverse = symmetric(spectrum), random_gradient(5), isinstance(function, InverseSqrt)
    method = Lyapunov(iterations, forward=forward, order=order)
    result, eigenvalues = matrix_function(matrix, function, method)
    expected = ROOTS[forward](matrix, inverse=inverse) if order is None else ROOTS[forward](matrix, order, inverse)
    assert torch.equal(result, expected)
    assert eigenvalues.shape == (5,) and eigenvalues.isnan().all()
    root = (matrix @ expected if inverse else expected).numpy()
    solution = lyapunov_iteration(root, right_hand_side(function, gradient, expected.numpy()), iterations)
    grad_matrix = matrix_gradient(matrix, function, method, gradient)
    assert relative_error(grad_matrix, torch.from_numpy(solution)) < rounding_of(spectrum)
    assert torch.equal(grad_matrix, grad_matrix.mT)


@each_function
@pytest.mark.parametrize(
    ("forward", "order", "dtype", "tolerance"),
    [
        ("newton_schulz", 14, torch.float32, 1e-5),
        ("newton_schulz", 14, torch.float64, 1e-12),
        ("mpa", 8, torch.float32, 1e-3),
        ("mpa", 20, torch.float64, 1e-8),
        ("mtp", 600, torch.float32, 1e-4),
        ("mtp", 600, torch.float64, 1e-10),
    ],
)
@pytest.mark.parametrize("spectrum", ["separated", "tied"], indirect=True)
def test_lyapunov_with_a_converged_forward_is_exact(
    function, forward, order, spectrum, dtype, tolerance, symmetric, random_gradient, matrix_gradient, relative_error
):
    matrix, gradient = symmetric(spectrum), random_gradient(5)
    method = Lyapunov(14, forward=forward, order=order)
    exact = matrix_gradient(matrix, function, Exact(), gradient, shift=0.02)
    result = matrix_gradient(matrix.to(dtype), function, method, gradient.to(dtype), shift=0.02)
    assert relative_error(result.double(), exact) < tolerance


# Both


WITHOUT_DECOMPOSITION = [NewtonSchulz(forward="newton_schulz"), *(Lyapunov(forward=forward) for forward in ROOTS)]


@pytest.mark.parametrize("method", WITHOUT_DECOMPOSITION, ids=str)
@pytest.mark.parametrize("spectrum", ["rank-deficient", "condition-1e14"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iterations_without_a_decomposition_are_finite_where_the_root_has_no_slope(
    method, spectrum, dtype, symmetric, random_gradient, matrix_gradient
):
    matrix, gradient = symmetric(spectrum).to(dtype), random_gradient(5).to(dtype)
    result = matrix_gradient(matrix, Sqrt(), method, gradient)
    assert result.isfinite().all() and result.abs().max() > 0


@pytest.mark.parametrize("method", WITHOUT_DECOMPOSITION, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_matrix_has_the_root_zero_and_a_finite_gradient(method, dtype, random_gradient, matrix_gradient):
    matrix = torch.zeros(4, 4, dtype=dtype)
    assert matrix_function(matrix, Sqrt(), method)[0].abs().max() < 1e-18
    assert matrix_gradient(matrix, Sqrt(), method, random_gradient(4).to(dtype)).isfinite().all()


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        *[(method, {"iterations": value}, f"iterations={value!r}: must be a whole number >= 1")
          for method in (NewtonSchulz, Lyapunov) for value in (0, -1, 2.5, "10", True, None)],
        *[(Lyapunov, {"order": value}, f"order={value!r}: must be a whole number >= 1") for value in (0, -1, 2.5, "10", True)],
        (NewtonSchulz, {"forward": "mpa"}, "forward='mpa': must be eigh or newton_schulz"),
        (NewtonSchulz, {"forward": None}, "forward=None: must be eigh or newton_schulz"),
        (Lyapunov, {"forward": "svd"}, "forward='svd': must be eigh, mpa, mtp or newton_schulz"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(method, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        method(**arguments)


of_roots_only = pytest.mark.parametrize("method", [NewtonSchulz(), Lyapunov(), *WITHOUT_DECOMPOSITION], ids=str)
REFUSAL = r"^(NewtonSchulz|Lyapunov) has a gradient of the square root and the inverse square root only, not of "


@of_roots_only
@pytest.mark.parametrize(
    "function", [Restricted(InverseSqrt(), Leading(2)), Restricted(One(), Leading(2)), Power(0.5), Log()], ids=str
)
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_other_functions_are_refused_in_one_line(method, function, spectrum, symmetric):
    with pytest.raises(ValueError, match=REFUSAL) as error:
        matrix_function(symmetric(spectrum), function, method)
    assert str(function) in str(error.value) and len(str(error.value).splitlines()) == 1


@of_roots_only
@pytest.mark.parametrize(
    ("layer", "truncation"),
    [(ZCAWhitening, "reference"), (ZCAWhitening, "reference_svd"), (PCADenoising, "none"), (PCADenoising, "reference")],
)
def test_layers_that_are_no_root_are_refused_when_built(method, layer, truncation):
    with pytest.raises(ValueError, match=REFUSAL):
        layer(16, backward=method, truncation=truncation)


@of_roots_only
def test_a_layer_that_is_a_root_is_built(method):
    layer = ZCAWhitening(4, 4, backward=method, eps=0.1)
    x = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad.isfinite().all()


# Zero


@each_dtype
@pytest.mark.parametrize("method", [NewtonSchulz(), Lyapunov()], ids=str)
def test_the_exact_root_of_a_zero_matrix_passes_no_gradient(method, dtype, random_gradient, matrix_gradient):
    """Nor does it disturb another matrix of the batch."""
    gradient = random_gradient(3).to(dtype)
    matrices = torch.stack([torch.zeros(3, 3), torch.diag(torch.tensor([3.0, 2.0, 1.0]))]).to(dtype)
    zero, other = matrix_gradient(matrices, Sqrt(), method, gradient.expand(2, 3, 3))
    assert not zero.any()
    assert_near(other, matrix_gradient(matrices[1], Sqrt(), method, gradient), terms=3 * 20, condition=3)
