"""F(A) = V f(Lambda) V^T: its values, its eigenvalues, its errors."""

import numpy as np
import pytest
import torch

from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.functions import InverseSqrt, One, Restricted
from spectral_repro.linalg.selection import Leading


def positive_definite(*shape, dtype=torch.float64):
    """Random (..., d, d) with eigenvalues of 0.5 and more."""
    factor = torch.randn(*shape, shape[-1], dtype=dtype, generator=torch.Generator().manual_seed(0))
    return factor @ factor.mT + 0.5 * torch.eye(shape[-1], dtype=dtype)


@pytest.mark.parametrize("shape", [(1,), (6,), (3, 4), (2, 3, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_inverse_square_root_inverts_its_argument_when_squared(shape, dtype, tolerance):
    matrix = positive_definite(*shape, dtype=dtype)
    root, _ = matrix_function(matrix, InverseSqrt())
    assert root.dtype == dtype
    assert root.shape == matrix.shape
    identity = torch.eye(shape[-1], dtype=dtype).expand_as(matrix)
    torch.testing.assert_close(root @ matrix @ root, identity, atol=tolerance, rtol=0)
    assert (torch.linalg.eigvalsh(root) > 0).all()


@pytest.mark.parametrize("count", [1, 3, 6])
def test_one_restricted_to_leading_eigenvalues_is_their_projector(count):
    matrix = positive_definite(2, 6)
    projector, eigenvalues = matrix_function(matrix, Restricted(One(), Leading(count)))
    torch.testing.assert_close(projector @ projector, projector)
    torch.testing.assert_close(projector @ matrix, matrix @ projector)
    kept = (projector @ matrix).diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(kept, eigenvalues[:, :count].sum(-1))
    torch.testing.assert_close(projector.diagonal(dim1=-2, dim2=-1).sum(-1), torch.full((2,), float(count)).double())


def test_restriction_zeroes_the_function_on_the_other_eigenvectors():
    matrix = positive_definite(5)
    values, vectors = np.linalg.eigh(matrix.numpy())
    expected = sum(values[i] ** -0.5 * np.outer(vectors[:, i], vectors[:, i]) for i in (4, 3))
    result, _ = matrix_function(matrix, Restricted(InverseSqrt(), Leading(2)))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-13)


def test_eigenvalues_come_largest_first_and_carry_no_gradient():
    matrix = positive_definite(3, 5).requires_grad_()
    result, eigenvalues = matrix_function(matrix, InverseSqrt())
    np.testing.assert_allclose(eigenvalues.numpy(), np.linalg.eigvalsh(matrix.detach().numpy())[:, ::-1], rtol=1e-12)
    assert result.requires_grad
    assert not eigenvalues.requires_grad


def test_shift_is_added_to_the_matrix():
    matrix = positive_definite(2, 5)
    shifted, eigenvalues = matrix_function(matrix, InverseSqrt(), shift=0.3)
    expected, expected_eigenvalues = matrix_function(matrix + 0.3 * torch.eye(5), InverseSqrt())
    torch.testing.assert_close(shifted, expected)
    torch.testing.assert_close(eigenvalues, expected_eigenvalues)


def test_shift_keeps_what_rounding_made_negative_positive():
    matrix = torch.diag(torch.tensor([2.0, -1e-3, 0.0], dtype=torch.float64)).requires_grad_()
    root, eigenvalues = matrix_function(matrix, InverseSqrt(), shift=1e-4)
    torch.testing.assert_close(eigenvalues, torch.tensor([2.0001, 1e-4, 0.5e-4], dtype=torch.float64))
    root.sum().backward()
    assert matrix.grad.isfinite().all()


def test_shift_does_not_drown_the_eigenvectors_of_a_tiny_matrix():
    matrix, keep = positive_definite(5), Restricted(One(), Leading(2))
    torch.testing.assert_close(matrix_function(1e-26 * matrix, keep, shift=1e-4)[0], matrix_function(matrix, keep)[0])


def test_the_gradient_of_a_batch_is_that_of_each_matrix():
    batch, gradient = positive_definite(3, 4).requires_grad_(), positive_definite(3, 4).flip(-1)
    matrix_function(batch, InverseSqrt())[0].backward(gradient)
    for matrix, incoming, expected in zip(batch.detach(), gradient, batch.grad, strict=True):
        matrix.requires_grad_()
        matrix_function(matrix, InverseSqrt())[0].backward(incoming)
        torch.testing.assert_close(matrix.grad, expected)


def test_autocast_does_not_reach_it():
    matrix = positive_definite(6, dtype=torch.float32).requires_grad_()
    expected = matrix_function(matrix, InverseSqrt())[0]
    expected_gradient = torch.autograd.grad(expected.square().sum(), matrix)[0]
    with torch.autocast("cpu", torch.bfloat16):
        root = matrix_function(matrix, InverseSqrt())[0]
        gradient = torch.autograd.grad(root.square().sum(), matrix)[0]
    assert torch.equal(root, expected) and torch.equal(gradient, expected_gradient)


def test_the_gradient_is_symmetric():
    matrix = positive_definite(4).requires_grad_()
    matrix_function(matrix, InverseSqrt())[0][0, 3].backward()
    torch.testing.assert_close(matrix.grad, matrix.grad.mT)
    assert matrix.grad.abs().max() > 0


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_nan_never_becomes_a_number(size):
    matrix = torch.eye(size).repeat(2, 1, 1)
    matrix[1, -1, -1] = torch.nan
    try:
        result = matrix_function(matrix, InverseSqrt())[0]
    except torch.linalg.LinAlgError:
        return
    assert result[1].isnan().any() and result[0].isfinite().all()
