"""Power iteration in both passes against the published loop."""

import pytest
import torch

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Exact, UnrolledPowerIteration
from spectral_repro.linalg.functions import InverseSqrt, One, Restricted
from spectral_repro.linalg.selection import Leading


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
def test_it_is_the_published_loop(function, f, iterations, eps, spectra, symmetric, random_gradient, relative_error):
    matrices = [symmetric(spectra[name], seed) for seed, name in enumerate(("separated", "close", "tied"))]
    matrices = torch.stack(matrices).requires_grad_()
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
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_it_tends_to_exact(function, spectrum, symmetric, random_gradient, relative_error):
    matrix, gradient = symmetric(spectrum).requires_grad_(), random_gradient(5)
    torch.manual_seed(0)
    result, eigenvalues = matrix_function(matrix, function, UnrolledPowerIteration(400), shift=0.2)
    (unrolled,) = torch.autograd.grad(result, matrix, gradient)
    expected, exact_eigenvalues = matrix_function(matrix, function, Exact(), shift=0.2)
    (exact,) = torch.autograd.grad(expected, matrix, (gradient + gradient.T) / 2)
    torch.testing.assert_close(eigenvalues, exact_eigenvalues)
    assert relative_error(result, expected) < 1e-10
    assert relative_error((unrolled + unrolled.T) / 2, exact) < 1e-8


@pytest.mark.parametrize("spectrum", ["rank-deficient", "condition-1e14"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_finite_where_directions_are_lost(spectrum, dtype, symmetric, random_gradient, matrix_gradient):
    torch.manual_seed(0)
    gradient = random_gradient(5).to(dtype)
    result = matrix_gradient(symmetric(spectrum).to(dtype), InverseSqrt(), UnrolledPowerIteration(), gradient, shift=1e-3)
    assert result.isfinite().all() and result.abs().max() > 0


@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_it_needs_a_shift(spectrum, symmetric):
    with pytest.raises(ValueError, match=r"^shift=0.0 must be > 0"):
        matrix_function(symmetric(spectrum), InverseSqrt(), UnrolledPowerIteration())


@pytest.mark.parametrize("iterations", [0, -1, 2.5, "19", True])
def test_a_wrong_argument_is_named(iterations):
    with pytest.raises(ValueError, match=f"^iterations={iterations!r} must be a whole number >= 1$"):
        UnrolledPowerIteration(iterations)
