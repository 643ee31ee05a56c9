"""Eigenvalues and eigenvectors: what they are, and their gradient by every method."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from spectral_repro.linalg import eigh, matrix_function
from spectral_repro.linalg.backward import (
    AutogradSVD,
    Exact,
    Hybrid,
    Lyapunov,
    NewtonSchulz,
    Pade,
    PlainSVD,
    PowerIteration,
    Taylor,
    TopN,
    Truncated,
    UnrolledPowerIteration,
)
from spectral_repro.linalg.functions import InverseSqrt, Sqrt
from tests.tolerance import assert_near, condition_of, tolerance

GAPPED = [Exact(), PlainSVD(), Truncated(), TopN(5), Taylor(), Pade(), PowerIteration(60)]
RATIOS = (16.0, 8.0, 4.0, 2.0, 1.0)  # where every series has converged

each_method = pytest.mark.parametrize("method", GAPPED, ids=str)
each_spectrum = pytest.mark.parametrize("spectrum", ["separated", "close", "indefinite"], indirect=True)


def weigh(eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """A function of both that does not depend on the eigenvectors' signs."""
    d = eigenvalues.shape[-1]
    weights = torch.arange(1.0, d * d + 1, dtype=eigenvalues.dtype).view(d, d).cos()
    return (weights * eigenvectors**2).sum() + (weights[0] * eigenvalues**2).sum()


def gradient(matrix: Tensor, method, of=weigh) -> Tensor:
    leaf = matrix.clone().requires_grad_()
    of(*eigh(leaf, method)).backward()
    return leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3, 5)])
def test_it_decomposes(shape, dtype):
    a = torch.randn(*shape, shape[-1], dtype=dtype, generator=torch.Generator().manual_seed(0))
    matrix = a + a.mT
    eigenvalues, eigenvectors = eigh(matrix)
    assert eigenvalues.shape == shape and eigenvectors.shape == matrix.shape
    assert eigenvalues.dtype == eigenvectors.dtype == dtype
    assert (eigenvalues[..., :-1] >= eigenvalues[..., 1:]).all()
    assert_near((eigenvectors * eigenvalues.unsqueeze(-2)) @ eigenvectors.mT, matrix, terms=25)
    identity = torch.eye(shape[-1], dtype=dtype).expand_as(matrix)
    assert_near(eigenvectors.mT @ eigenvectors, identity, terms=25)


@each_spectrum
def test_the_exact_gradient_is_that_of_torch(spectrum, symmetric, relative_error):
    matrix = symmetric(spectrum)
    leaf = matrix.clone().requires_grad_()
    weigh(*(part.flip(-1) for part in torch.linalg.eigh((leaf + leaf.mT) / 2))).backward()
    assert relative_error(gradient(matrix, Exact()), leaf.grad) < 1e-10


@each_spectrum
def test_the_exact_gradient_passes_the_float64_check_of_finite_differences(spectrum, symmetric):
    matrices = torch.stack([symmetric(spectrum, seed) for seed in (0, 1)]).requires_grad_()
    assert gradcheck(lambda a: weigh(*eigh((a + a.mT) / 2)), (matrices,))


@each_method
def test_every_method_is_near_the_exact_gradient_where_ratios_are_small(method, symmetric, relative_error):
    matrix = symmetric(RATIOS)
    assert relative_error(gradient(matrix, method), gradient(matrix, Exact())) < tolerance(
        torch.float64, 25, condition_of(RATIOS)
    )


@pytest.mark.parametrize("method", [*GAPPED, Truncated(0.7), Taylor(3), PowerIteration(3), TopN(3)], ids=str)
@pytest.mark.parametrize("function", [Sqrt(), InverseSqrt()], ids=str)
@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_a_function_put_together_from_it_has_the_methods_own_gradient(
    method, function, spectrum, symmetric, random_gradient, matrix_gradient, relative_error
):
    """F = V diag(f(lambda)) V^T by automatic differentiation through `eigh`, far from convergence too."""
    matrix, grad_output = symmetric(spectrum), random_gradient(5)
    kept = torch.arange(5) < getattr(method, "n", 5)

    def of(eigenvalues, eigenvectors):
        values = torch.where(kept, function(torch.where(kept, eigenvalues, 1.0)), 0.0)
        return (grad_output * ((eigenvectors * values) @ eigenvectors.T)).sum()

    expected = matrix_gradient(matrix, function, method, grad_output)
    assert relative_error(gradient(matrix, method, of), expected) < tolerance(torch.float64, 25, condition_of(spectrum))


def test_top_n_leaves_nothing_of_the_others_and_passes_nothing_to_them(symmetric):
    matrix = symmetric(RATIOS).requires_grad_()
    eigenvalues, eigenvectors = eigh(matrix, TopN(2))
    assert eigenvalues.tolist() == pytest.approx([16.0, 8.0, 0.0, 0.0, 0.0])
    (grad_matrix,) = torch.autograd.grad(eigenvalues.sum(), matrix)
    torch.testing.assert_close(grad_matrix, eigenvectors[:, :2] @ eigenvectors[:, :2].T)


@pytest.mark.parametrize("method", [Exact(), Truncated()], ids=str)
def test_a_tie_passes_nothing_between_its_directions(method):
    """The other pairs have their ordinary gradient."""
    matrix = torch.diag(torch.tensor([3.0, 2.0, 2.0], dtype=torch.float64))
    grad_output = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grad_matrix = gradient(matrix, method, lambda _, vectors: (grad_output * vectors * vectors[0].sign()).sum())
    vectors = eigh(matrix)[1]
    inner = vectors.T @ grad_matrix @ vectors
    assert grad_matrix.isfinite().all() and inner[1, 2] == inner[2, 1] == 0
    assert (inner[0, 1:].abs() > 0.01).all()


def test_plain_svd_is_not_finite_at_a_tie_but_its_eigenvalues_are():
    matrix = torch.diag(torch.tensor([3.0, 2.0, 2.0]))
    grad_output = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    grad_matrix = gradient(matrix, PlainSVD(), lambda _, eigenvectors: (grad_output * eigenvectors).sum())
    assert not grad_matrix.isfinite().all()
    torch.testing.assert_close(gradient(matrix, PlainSVD(), lambda eigenvalues, _: eigenvalues.sum()), torch.eye(3))


def test_a_hybrid_is_the_method_whose_turn_it_is(symmetric):
    matrix, hybrid = symmetric((4.0, 3.9, 2.0)), Hybrid(PowerIteration(2), Taylor(3))
    assert gradient(matrix, hybrid).equal(gradient(matrix, PowerIteration(2)))
    hybrid.advance(1.0)
    assert gradient(matrix, hybrid).equal(gradient(matrix, Taylor(3)))


@pytest.mark.parametrize(
    "method", [NewtonSchulz(), Lyapunov(), Hybrid(NewtonSchulz(), Taylor()), AutogradSVD(), UnrolledPowerIteration()], ids=str
)
def test_a_method_without_reciprocal_gaps_is_refused(method):
    with pytest.raises(ValueError, match=r"^backward=\w+\(.*\): must be a method with reciprocal gaps"):
        eigh(torch.eye(3), method)


def test_autocast_does_not_reach_it(symmetric):
    matrix = symmetric(RATIOS).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = gradient(matrix, Exact())
    assert inside.equal(gradient(matrix, Exact()))


def test_the_eigenvalues_are_those_of_a_matrix_function(symmetric):
    matrix = symmetric(RATIOS)
    assert eigh(matrix)[0].equal(matrix_function(matrix, Sqrt())[1])
