"""F(A) = V f(Lambda) V^T: its values, its eigenvalues, its errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.linalg import eigh, expm, inverse_sqrtm, logm, matrix_function, powerm, sqrtm
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
from spectral_repro.linalg.functions import InverseSqrt, One, Restricted
from spectral_repro.linalg.selection import Leading
from tests import degenerate
from tests.tolerance import assert_near, condition_of

BOUNDED = [Exact(), Truncated(), Taylor(), PowerIteration(), NewtonSchulz(), Lyapunov()]
DECOMPOSING = [*BOUNDED, PlainSVD(), TopN(3), Pade()]
BY_PRODUCTS = [NewtonSchulz(forward="newton_schulz"), *(Lyapunov(forward=root) for root in ("mpa", "mtp", "newton_schulz"))]

each_method = pytest.mark.parametrize("method", [*DECOMPOSING, *BY_PRODUCTS, UnrolledPowerIteration()], ids=str)
each_repeatable_method = pytest.mark.parametrize("method", [*DECOMPOSING, *BY_PRODUCTS], ids=str)


def value_and_gradient(matrix, method, grad_output, shift=0.0):
    """Of the inverse square root; starts of power iteration drawn alike."""
    torch.manual_seed(0)
    matrix = matrix.detach().requires_grad_()
    root, eigenvalues = matrix_function(matrix, InverseSqrt(), method, shift)
    (gradient,) = torch.autograd.grad(root, matrix, grad_output)
    return root.detach(), eigenvalues, gradient


def positive_definite(*shape, dtype=torch.float64):
    """Random (..., d, d) with eigenvalues of 0.5 and more."""
    factor = torch.randn(*shape, shape[-1], dtype=dtype, generator=torch.Generator().manual_seed(0))
    return factor @ factor.mT + 0.5 * torch.eye(shape[-1], dtype=dtype)


@pytest.mark.parametrize("shape", [(1,), (6,), (3, 4), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_square_root_inverts_its_argument_when_squared(shape, dtype):
    matrix = positive_definite(*shape, dtype=dtype)
    root, _ = matrix_function(matrix, InverseSqrt())
    assert root.dtype == dtype
    assert root.shape == matrix.shape
    identity = torch.eye(shape[-1], dtype=dtype).expand_as(matrix)
    assert_near(root @ matrix @ root, identity, terms=2 * shape[-1], condition=torch.linalg.cond(matrix).max().item())
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
    assert_near(result, torch.from_numpy(expected), terms=25, condition=condition_of(values[::-1].tolist()))


def test_eigenvalues_come_largest_first_and_carry_no_gradient():
    matrix = positive_definite(3, 5).requires_grad_()
    result, eigenvalues = matrix_function(matrix, InverseSqrt())
    assert_near(eigenvalues, torch.linalg.eigvalsh(matrix.detach()).flip(-1), terms=25)
    assert result.requires_grad
    assert not eigenvalues.requires_grad


@each_repeatable_method
def test_shift_is_added_to_the_matrix(method):
    matrix, gradient = positive_definite(2, 5), positive_definite(2, 5).flip(-1)
    shifted = value_and_gradient(matrix, method, gradient, shift=0.3)
    expected = value_and_gradient(matrix + 0.3 * torch.eye(5), method, gradient)
    for result, reference in zip(shifted, expected, strict=True):
        torch.testing.assert_close(result, reference, equal_nan=True)


@each_method
def test_a_method_has_eigenvalues_if_it_decomposes_and_no_gradient_of_them(method):
    matrix = positive_definite(3, 5).requires_grad_()
    _, eigenvalues = matrix_function(matrix, InverseSqrt(), method, shift=0.1)
    assert eigenvalues.shape == (3, 5) and not eigenvalues.requires_grad
    if method in DECOMPOSING:
        torch.testing.assert_close(eigenvalues, torch.linalg.eigvalsh(matrix.detach()).flip(-1) + 0.1)
    assert method.decomposes == (method in DECOMPOSING)
    assert eigenvalues.isnan().all() == (method in BY_PRODUCTS)


def test_shift_keeps_what_rounding_made_negative_positive():
    matrix = torch.diag(torch.tensor([2.0, -1e-3, 0.0], dtype=torch.float64)).requires_grad_()
    root, eigenvalues = matrix_function(matrix, InverseSqrt(), shift=1e-4)
    torch.testing.assert_close(eigenvalues, torch.tensor([2.0001, 1e-4, 0.5e-4], dtype=torch.float64))
    root.sum().backward()
    assert matrix.grad.isfinite().all()


def test_shift_does_not_drown_the_eigenvectors_of_a_tiny_matrix():
    matrix, keep = positive_definite(5), Restricted(One(), Leading(2))
    torch.testing.assert_close(matrix_function(1e-26 * matrix, keep, shift=1e-4)[0], matrix_function(matrix, keep)[0])


@each_repeatable_method
def test_a_batch_of_matrices_of_any_scale_is_taken_one_by_one(method):
    """Every norm and every trace is that of one matrix, and no gradient overflows into the matrix beside it."""
    scales = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64).view(3, 1, 1)
    batch, grad_output = scales * positive_definite(3, 4), positive_definite(3, 4).flip(-1)
    together = value_and_gradient(batch, method, grad_output)
    for index in range(3):
        for result, reference in zip(together, value_and_gradient(batch[index], method, grad_output[index]), strict=True):
            rounding = 1e-12 * reference.nan_to_num().abs().max().item()
            torch.testing.assert_close(result[index], reference, rtol=0, atol=rounding, equal_nan=True)


@each_method
def test_autocast_does_not_reach_it(method):
    matrix = positive_definite(6, dtype=torch.float32).requires_grad_()
    torch.manual_seed(0)
    expected, _ = matrix_function(matrix, InverseSqrt(), method, shift=0.1)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), matrix)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        root, _ = matrix_function(matrix, InverseSqrt(), method, shift=0.1)
    (gradient,) = torch.autograd.grad(root.square().sum(), matrix)
    assert torch.equal(root, expected) and torch.equal(gradient, expected_gradient)


# in those left out the steps are differentiated one by one, by products that autocast reaches
@pytest.mark.parametrize("method", [*DECOMPOSING, Lyapunov(forward="mpa")], ids=str)
def test_autocast_does_not_reach_a_gradient_taken_under_it(method):
    matrix = positive_definite(6, dtype=torch.float32).requires_grad_()
    grad_output = positive_definite(6, dtype=torch.float32).flip(-1)
    root, _ = matrix_function(matrix, InverseSqrt(), method)
    (expected,) = torch.autograd.grad(root, matrix, grad_output, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(root, matrix, grad_output)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("method", [*DECOMPOSING, *BY_PRODUCTS, UnrolledPowerIteration(), AutogradSVD()], ids=str)
def test_the_gradient_is_symmetric(method):
    matrix, grad_output = positive_definite(4), torch.zeros(4, 4, dtype=torch.float64)
    grad_output[0, 3] = 1.0
    _, _, gradient = value_and_gradient(matrix, method, grad_output, shift=1e-3)
    torch.testing.assert_close(gradient, gradient.mT)
    assert gradient.abs().max() > 0


@settings(max_examples=20)
@given(spectrum=degenerate.spectra(5), scale=st.sampled_from([1e-3, 1.0, 1e3]))
@pytest.mark.parametrize("method", [*BOUNDED, *BY_PRODUCTS, UnrolledPowerIteration()], ids=str)
def test_the_gradient_of_any_shifted_spectrum_is_finite_where_no_gap_divides_it(method, spectrum, scale, random_gradient):
    """The shift is from a millionth of the largest eigenvalue to as much as it."""
    for dtype in (torch.float32, torch.float64):
        matrix, grad_output = torch.diag(scale * spectrum).to(dtype), random_gradient(5).to(dtype)
        _, _, gradient = value_and_gradient(matrix, method, grad_output, shift=1e-3)
        assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_nan_never_becomes_a_number(size):
    matrix = torch.eye(size).repeat(2, 1, 1)
    matrix[1, -1, -1] = torch.nan
    try:
        result = matrix_function(matrix, InverseSqrt())[0]
    except torch.linalg.LinAlgError:
        return
    assert result[1].isnan().any() and result[0].isfinite().all()


@pytest.mark.parametrize(
    ("function", "scalar"),
    [
        (sqrtm, np.sqrt),
        (inverse_sqrtm, lambda x: x**-0.5),
        (lambda a: powerm(a, 0.3), lambda x: x**0.3),
        (logm, np.log),
        (expm, np.exp),
        (lambda a: expm(a, rate=-2.0), lambda x: np.exp(-2 * x)),
        (lambda a: inverse_sqrtm(a, NewtonSchulz(30), shift=0.2), lambda x: (x + 0.2) ** -0.5),
    ],
    ids=["sqrtm", "inverse_sqrtm", "powerm", "logm", "expm", "expm-rate", "newton-schulz"],
)
def test_named_functions(function, scalar):
    matrix = positive_definite(2, 4)
    values, vectors = np.linalg.eigh(matrix.numpy())
    expected = (vectors * scalar(values)[:, None]) @ vectors.transpose(0, 2, 1)
    np.testing.assert_allclose(function(matrix).numpy(), expected, rtol=1e-9, atol=1e-9)
    assert gradcheck(lambda a: function((a + a.mT) / 2), (matrix.requires_grad_(),))


@pytest.mark.parametrize("backward", ["exact", Exact, None], ids=str)
def test_what_is_no_method_is_named(backward: object):
    for use in (
        lambda: sqrtm(torch.eye(2), backward),
        lambda: eigh(torch.eye(2), backward),
        lambda: ZCAWhitening(4, backward=backward),
        lambda: CovariancePooling(4, backward=backward),
    ):
        with pytest.raises(ValueError, match=r"^backward=.*: must be a method such as Exact\(\)$"):
            use()
    with pytest.raises(ValueError, match=r"^second=.*: must be a method"):
        Hybrid(Exact(), backward)


def test_an_exponent_or_a_rate_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="exponent=nan: must be a finite number"):
        powerm(torch.eye(2), math.nan)
    with pytest.raises(ValueError, match="rate=inf: must be a finite number"):
        expm(torch.eye(2), math.inf)
