"""Every backward method against its definition, computed another way."""

from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
import torch
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import AutogradSVD, Exact, PlainSVD, PowerIteration, UnrolledPowerIteration
from spectral_repro.linalg.functions import InverseSqrt, One, Restricted
from spectral_repro.linalg.selection import Information, Leading, PublishedCut

SEPARATED = (4.0, 3.0, 2.0, 0.7, 0.3)
CLOSE = (4.0, 3.99, 2.0, 1.999, 0.3)
TIED = (2.0, 2.0, 2.0, 0.5, 0.5)


def symmetric(eigenvalues, seed=0):
    """A float64 symmetric matrix with the given eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    d = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    matrix = basis * torch.tensor(eigenvalues, dtype=torch.float64) @ basis.T
    return (matrix + matrix.T) / 2


def random_gradient(d, seed=1):
    return torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix_gradient(matrix, function, backward, gradient):
    """dL/dA of F(A) for the incoming ``gradient`` dL/dF."""
    matrix = matrix.clone().requires_grad_()
    matrix_function(matrix, function, backward)[0].backward(gradient)
    return matrix.grad


def relative_error(value, reference):
    return ((value - reference).abs().max() / reference.abs().max()).item()


# Exact


@pytest.mark.parametrize(
    ("function", "eigenvalues"),
    [
        (InverseSqrt(), SEPARATED),
        (InverseSqrt(), CLOSE),
        (InverseSqrt(), TIED),
        (Restricted(InverseSqrt(), Leading(2)), SEPARATED),
        (Restricted(InverseSqrt(), Leading(3)), TIED),
        (Restricted(InverseSqrt(), PublishedCut(0.08)), SEPARATED),
        (Restricted(One(), Leading(2)), SEPARATED),
        (Restricted(One(), Leading(3)), TIED),
        (Restricted(One(), Information(0.8)), SEPARATED),
        (Restricted(One(), Leading(5)), SEPARATED),
    ],
)
def test_exact_agrees_with_finite_differences(function, eigenvalues):
    matrix = symmetric(eigenvalues).requires_grad_()
    assert gradcheck(lambda a: matrix_function((a + a.mT) / 2, function, Exact())[0], (matrix,))


def test_exact_of_a_multiple_of_the_identity_is_the_scalar_derivative():
    gradient = random_gradient(4)
    result = matrix_gradient(2.5 * torch.eye(4, dtype=torch.float64), InverseSqrt(), Exact(), gradient)
    torch.testing.assert_close(result, -0.5 * 2.5**-1.5 * (gradient + gradient.T) / 2)


@pytest.mark.parametrize("function", [One(), InverseSqrt()])
def test_exact_passes_nothing_between_tied_directions_that_a_cut_parts(function):
    kernel = Exact().kernel(Restricted(function, Leading(2)), torch.tensor([3.0, 1.0, 1.0, 0.5], dtype=torch.float64))
    assert kernel[1, 2] == kernel[2, 1] == 0
    assert kernel[0, 2] == pytest.approx(float(function(torch.tensor(3.0))) / 2, rel=1e-6)
    assert kernel[2, 3] == 0


@pytest.mark.parametrize("relative_gap", [0.5, 1e-3, 1e-5, 2e-7, 0.0])
def test_float32_kernels_lose_no_accuracy_as_a_gap_closes(relative_gap):
    eigenvalues = torch.tensor([3.0, 3.0 * (1 - relative_gap)])
    a, b = (Decimal(value) for value in eigenvalues.tolist())
    with localcontext(prec=60):
        f_a, f_b = 1 / a.sqrt(), 1 / b.sqrt()
        exact = (f_a - f_b) / (a - b) if a != b else -f_a / a / 2
        series = [sum((b / a) ** k for k in range(degree + 1)) for degree in (19, 18)]
        iterated = (f_a * series[0] - f_b * series[1]) / a
    assert Exact().kernel(InverseSqrt(), eigenvalues)[0, 1].item() == pytest.approx(float(exact), rel=1e-6)
    assert PowerIteration(19).kernel(InverseSqrt(), eigenvalues)[0, 1].item() == pytest.approx(float(iterated), rel=1e-5)


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
@pytest.mark.parametrize("eigenvalues", [SEPARATED, CLOSE])
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
def test_power_iteration_is_the_published_loop(function, f, kept, eigenvalues, iterations, deflation):
    matrix, gradient = symmetric(eigenvalues).requires_grad_(), random_gradient(5)
    output = deflation_loop(matrix, f, kept, iterations, DEFLATIONS[deflation])
    (loop,) = torch.autograd.grad(output, matrix, gradient)

    assert relative_error(matrix_function(matrix, function, PowerIteration(iterations))[0], output) < 1e-10
    result = matrix_gradient(matrix.detach(), function, PowerIteration(iterations), gradient)
    assert relative_error(result, (loop + loop.T) / 2) < 1e-10


@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(3)), Restricted(One(), Leading(3))])
def test_power_iteration_tends_to_exact(function):
    matrix, gradient = symmetric(SEPARATED), random_gradient(5)
    exact = matrix_gradient(matrix, function, Exact(), gradient)
    errors = [
        relative_error(matrix_gradient(matrix, function, PowerIteration(k), gradient), exact) for k in (1, 2, 4, 8, 16, 32, 64)
    ]
    assert all(more > fewer for more, fewer in pairwise(errors))
    assert errors[0] > 0.01
    assert errors[-1] < 1e-6
    assert relative_error(matrix_gradient(matrix, function, PowerIteration(200), gradient), exact) < 1e-12


@pytest.mark.parametrize("method", [PowerIteration, UnrolledPowerIteration])
@pytest.mark.parametrize("iterations", [0, -1, 2.5, "19"])
def test_power_iteration_names_a_wrong_argument(method, iterations):
    with pytest.raises(ValueError, match="iterations"):
        method(iterations)


# Plain SVD


@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(3)), Restricted(One(), Leading(3))])
def test_plain_svd_equals_exact_where_eigenvalues_are_apart(function):
    matrix, gradient = symmetric(SEPARATED), random_gradient(5)
    exact = matrix_gradient(matrix, function, Exact(), gradient)
    assert relative_error(matrix_gradient(matrix, function, PlainSVD(), gradient), exact) < 1e-12


def test_plain_svd_is_nan_at_a_tie():
    matrix = torch.diag(torch.tensor([3.0, 2.0, 2.0], dtype=torch.float64))
    assert matrix_gradient(matrix, InverseSqrt(), PlainSVD(), random_gradient(3)).isnan().any()


@pytest.mark.parametrize("kept", [5, 3])
def test_plain_svd_is_what_autograd_makes_of_eigh(kept):
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


def test_plain_svd_passes_the_float64_check_of_finite_differences():
    matrix = symmetric(SEPARATED).requires_grad_()
    assert gradcheck(lambda a: matrix_function((a + a.mT) / 2, Restricted(InverseSqrt(), Leading(3)), PlainSVD())[0], (matrix,))


def test_autograd_svd_equals_exact_where_eigenvalues_are_apart():
    matrix, gradient = symmetric(SEPARATED).requires_grad_(), random_gradient(5)
    gradient = (gradient + gradient.T) / 2
    results = [matrix_function(matrix, InverseSqrt(), method, shift=0.1) for method in (AutogradSVD(), Exact())]
    (of_svd, of_exact) = (torch.autograd.grad(result, matrix, gradient)[0] for result, _ in results)
    torch.testing.assert_close(results[0], results[1])
    assert relative_error((of_svd + of_svd.T) / 2, of_exact) < 1e-12


def test_autograd_svd_is_not_finite_at_a_tie():
    matrix = torch.diag(torch.tensor([2.0, 2.0, 1.0])).requires_grad_()
    matrix_function(matrix, InverseSqrt(), AutogradSVD())[0].backward(random_gradient(3).float())
    assert not matrix.grad.isfinite().all()


def test_plain_svd_is_not_finite_at_a_tie_across_the_cut():
    matrix = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    gradient = matrix_gradient(matrix, Restricted(One(), Leading(1)), PlainSVD(), random_gradient(3).float())
    assert not gradient[:2, :2].isfinite().all()


# Unrolled power iteration


def published_loop(matrix, f, iterations, eps, starts):
    """Power iteration and deflation as wang2019's PI layer does them, for autograd, and how many directions it takes."""
    matrix = matrix + eps * torch.eye(len(matrix), dtype=matrix.dtype)
    total, last, count = torch.zeros_like(matrix), None, 0
    for v in starts.unbind(-1):
        v = v / v.norm()
        for _ in range(iterations):
            v = matrix @ v
            v = v / v.norm()
        eigenvalue = v @ matrix @ v
        if last is not None and (eigenvalue > last or eigenvalue < eps):
            break
        total, last, count = total + f(eigenvalue) * torch.outer(v, v), eigenvalue, count + 1
        matrix = matrix - torch.outer(matrix @ v, v)
    return total, count


@pytest.mark.parametrize(
    ("function", "f"), [(InverseSqrt(), torch.rsqrt), (One(), torch.ones_like)], ids=["whitening", "projector"]
)
@pytest.mark.parametrize(("iterations", "eps"), [(1, 0.1), (3, 0.1), (19, 0.1), (19, 2.5)])
def test_unrolled_power_iteration_is_the_published_loop(function, f, iterations, eps):
    matrices = torch.stack([symmetric(values, seed) for seed, values in enumerate((SEPARATED, CLOSE, TIED))]).requires_grad_()
    gradient = torch.stack([random_gradient(5, seed) for seed in range(3)])
    torch.manual_seed(3)
    result, eigenvalues = matrix_function(matrices, function, UnrolledPowerIteration(iterations), shift=eps)
    (of_matrices,) = torch.autograd.grad(result, matrices, gradient)

    torch.manual_seed(3)
    starts = torch.randn(3, 5, 5, dtype=torch.float64)
    counts = []
    for index in range(3):
        matrix = matrices[index].detach().requires_grad_()
        output, count = published_loop(matrix, f, iterations, eps, starts[index])
        (loop,) = torch.autograd.grad(output, matrix, gradient[index])
        assert relative_error(result[index], output) < 1e-9
        assert relative_error(of_matrices[index], loop) < 1e-7
        counts.append(count)
    assert (eigenvalues > 0).sum(-1).tolist() == counts
    if iterations == 1:
        assert min(counts) < 5, "some matrix should stop early"


@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(3)), Restricted(One(), Leading(3))])
def test_unrolled_power_iteration_tends_to_exact(function):
    matrix, gradient = symmetric(SEPARATED).requires_grad_(), random_gradient(5)
    torch.manual_seed(0)
    result, eigenvalues = matrix_function(matrix, function, UnrolledPowerIteration(400), shift=0.2)
    (unrolled,) = torch.autograd.grad(result, matrix, gradient)
    expected, exact_eigenvalues = matrix_function(matrix, function, Exact(), shift=0.2)
    (exact,) = torch.autograd.grad(expected, matrix, (gradient + gradient.T) / 2)
    torch.testing.assert_close(eigenvalues, exact_eigenvalues)
    assert relative_error(result, expected) < 1e-10
    assert relative_error((unrolled + unrolled.T) / 2, exact) < 1e-8


def test_unrolled_power_iteration_needs_a_shift():
    with pytest.raises(ValueError, match=r"shift=0.0 must be > 0"):
        matrix_function(symmetric(SEPARATED), InverseSqrt(), UnrolledPowerIteration())


# Kernels


@pytest.mark.parametrize("backward", [Exact(), PowerIteration(5)])
@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(2)), Restricted(One(), Leading(2))])
def test_kernels_are_symmetric_with_the_derivative_on_the_diagonal(function, backward):
    eigenvalues = torch.tensor([SEPARATED, (5.0, 4.0, 3.0, 2.0, 1.0)], dtype=torch.float64)
    kernel = backward.kernel(function, eigenvalues)
    assert kernel.shape == (2, 5, 5)
    assert torch.equal(kernel, kernel.mT)
    derivative = jacobian(lambda values: function(values).sum(), eigenvalues)
    torch.testing.assert_close(kernel.diagonal(dim1=-2, dim2=-1), derivative)


@pytest.mark.parametrize("backward", [Exact(), PowerIteration(19)])
@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(2)), Restricted(One(), Leading(2))])
@pytest.mark.parametrize("eigenvalues", [(1e-4,) * 4, (1.0, 1e-4, 1e-4, 1e-4), (1e30, 1e15, 1.0, 1e-4)])
def test_kernels_are_finite_in_float32_for_any_positive_spectrum(eigenvalues, function, backward):
    assert backward.kernel(function, torch.tensor(eigenvalues)).isfinite().all()
