"""The gradient that torch gives its own SVD."""

import pytest
import torch

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import AutogradSVD, Exact
from spectral_repro.linalg.functions import InverseSqrt


@pytest.mark.parametrize("spectrum", ["separated"], indirect=True)
def test_it_equals_exact_where_eigenvalues_are_apart(spectrum, symmetric, random_gradient, relative_error):
    matrix, gradient = symmetric(spectrum).requires_grad_(), random_gradient(5)
    gradient = (gradient + gradient.T) / 2
    results = [matrix_function(matrix, InverseSqrt(), method, shift=0.1) for method in (AutogradSVD(), Exact())]
    (grad_svd, grad_exact) = (torch.autograd.grad(result, matrix, gradient)[0] for result, _ in results)
    torch.testing.assert_close(results[0], results[1])
    assert relative_error((grad_svd + grad_svd.T) / 2, grad_exact) < 1e-12


def test_it_is_not_finite_at_a_tie(random_gradient):
    matrix = torch.diag(torch.tensor([2.0, 2.0, 1.0])).requires_grad_()
    matrix_function(matrix, InverseSqrt(), AutogradSVD())[0].backward(random_gradient(3).float())
    assert not matrix.grad.isfinite().all()
