"""Power iteration in both passes against the published loop."""

import pytest
import torch

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact, UnrolledPowerIteration
from spectral_repro.linalg.functions import InverseSqrt, One, Restricted
from spectral_repro.linalg.selection import Leading
from tests.tolerance import assert_near, tolerance


def published_loop(matrix, f, iterations, eps, starts, count):
    """Power iteration and deflation as wang2019's PI layer does them, for autograd, up to ``count`` directions.

    Returns:
        The matrix, and by how much each eigenvalue, that of the direction after the last included, keeps the loop going: the
        smaller of its relative distances to the one before, from which on it would rise, and to eps. The loop stops at the
        first that is negative.
    """
    matrix = matrix + eps * torch.eye(len(matrix), dtype=matrix.dtype)
    total, last, margins = torch.zeros_like(matrix), torch.inf, []
    for v in starts.unbind(-1)[: count + 1]:
        v = v / v.norm()
        for _ in range(iterations):
            v = matrix @ v
            v = v / v.norm()
        eigenvalue = v @ matrix @ v
        margins.append(min(1 - eigenvalue.item() / last, eigenvalue.item() / eps - 1))
        if len(margins) <= count:
            total, last = total + f(eigenvalue) * torch.outer(v, v), eigenvalue.item()
            matrix = matrix - torch.outer(matrix @ v, v)
    return total, margins


@pytest.mark.parametrize(
    ("function", "f"), [(InverseSqrt(), torch.rsqrt), (One(), torch.ones_like)], ids=["whitening", "projector"]
)
@pytest.mark.parametrize(("iterations", "eps"), [(1, 0.1), (3, 0.1), (19, 0.1), (19, 2.5)])
@pytest.mark.parametrize("spectrum", ["separated", "close", "tied"], indirect=True)
def test_it_is_the_published_loop(function, f, iterations, eps, spectrum, symmetric, random_gradient):
    matrices = torch.stack([symmetric(spectrum, seed) for seed in range(4)]).requires_grad_()
    gradient = torch.stack([random_gradient(5, seed) for seed in range(4)])
    torch.manual_seed(3)
    result, eigenvalues = matrix_function(matrices, function, UnrolledPowerIteration(iterations), shift=eps)
    (grad_matrices,) = torch.autograd.grad(result, matrices, gradient)

    torch.manual_seed(3)
    starts = torch.randn(4, 5, 5, dtype=torch.float64)
    counts = (eigenvalues > 0).sum(-1).tolist()
    exact = {"terms": 5 * 5 * iterations, "condition": (max(spectrum) + eps) / eps}
    rounding = tolerance(torch.float64, **exact)
    for index, count in enumerate(counts):
        matrix = matrices[index].detach().requires_grad_()
        output, margins = published_loop(matrix, f, iterations, eps, starts[index], count)
        (loop,) = torch.autograd.grad(output, matrix, gradient[index])
        loop = (loop + loop.mT) / 2  # among symmetric matrices
        # an eigenvalue that equals the one before to rounding stops the loop on one processor and not on another
        assert min(margins[:count]) > -rounding, "it went on where the published loop stops"
        assert count == 5 or margins[count] < rounding, "it stopped where the published loop goes on"
        assert_near(result[index], output, **exact)
        assert_near(grad_matrices[index], loop, **exact)
    if iterations == 1:
        assert min(counts) < 5, "some matrix should stop early"


@pytest.mark.parametrize("function", [InverseSqrt(), Restricted(InverseSqrt(), Leading(3)), Restricted(One(), Leading(3))])
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_it_tends_to_exact(function, spectrum, symmetric, random_gradient):
    matrix, gradient = symmetric(spectrum).requires_grad_(), random_gradient(5)
    torch.manual_seed(0)
    result, eigenvalues = matrix_function(matrix, function, UnrolledPowerIteration(400), shift=0.2)
    (unrolled,) = torch.autograd.grad(result, matrix, gradient)
    expected, exact_eigenvalues = matrix_function(matrix, function, Exact(), shift=0.2)
    (exact,) = torch.autograd.grad(expected, matrix, (gradient + gradient.T) / 2)
    exact_to = {"terms": 5 * 5 * 400, "condition": (4 + 0.2) / 0.2}
    assert_near(eigenvalues, exact_eigenvalues, **exact_to)
    assert_near(result, expected, **exact_to)
    assert_near((unrolled + unrolled.T) / 2, exact, **exact_to)


@pytest.mark.parametrize("spectrum", ["rank-deficient", "condition-1e14"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_finite_if_directions_are_lost(spectrum, dtype, symmetric, random_gradient, matrix_gradient):
    torch.manual_seed(0)
    gradient = random_gradient(5).to(dtype)
    result = matrix_gradient(symmetric(spectrum).to(dtype), InverseSqrt(), UnrolledPowerIteration(), gradient, shift=1e-3)
    assert result.isfinite().all() and result.abs().max() > 0


@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_it_needs_a_shift(spectrum, symmetric):
    with pytest.raises(ValueError, match=r"^shift=0.0: must be > 0"):
        matrix_function(symmetric(spectrum), InverseSqrt(), UnrolledPowerIteration())


@pytest.mark.parametrize("iterations", [0, -1, 2.5, "19", True])
def test_a_wrong_argument_is_named(iterations):
    with pytest.raises(ValueError, match=f"^iterations={iterations!r}: must be a whole number >= 1$"):
        UnrolledPowerIteration(iterations)
