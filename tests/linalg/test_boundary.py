"""What matrix functions and eigendecompositions take: dtypes, shifts, ranks, devices."""

import pytest
import torch
from torch import Tensor

from spectral_repro.linalg import eigh, inverse_sqrtm, matrix_function, powerm, sqrtm
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
    series,
)
from spectral_repro.linalg.functions import Exp, Product, Sqrt

METHODS = [
    Exact(),
    PlainSVD(),
    Truncated(),
    TopN(3),
    Taylor(),
    Pade(),
    PowerIteration(),
    NewtonSchulz(),
    Lyapunov(),
    NewtonSchulz(forward="newton_schulz"),
    Lyapunov(forward="mpa"),
    AutogradSVD(),
    UnrolledPowerIteration(),
    Hybrid(NewtonSchulz(), Taylor()),
]
each_method = pytest.mark.parametrize("method", METHODS, ids=str)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@each_method
@pytest.mark.parametrize("shift", [-1e-3, float("nan")])
def test_a_negative_shift_is_refused_by_every_method(method, shift):
    with pytest.raises(ValueError, match=rf"^shift={shift}: must be >= 0$"):
        inverse_sqrtm(torch.eye(3), method, shift)


@pytest.mark.parametrize("of", [lambda a: sqrtm(a), lambda a: sqrtm(a, AutogradSVD()), eigh], ids=["kernel", "steps", "eigh"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.float16, torch.bfloat16, torch.int64])
def test_other_dtypes_than_float32_and_float64_are_refused_in_one_line(of, dtype):
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"^matrix: must be symmetric in float32 or float64, not {name}$"):
        of(torch.eye(3).to(dtype))


@pytest.mark.parametrize("of", [sqrtm, eigh])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 3, 2)])
def test_other_shapes_than_square_ones_are_refused_in_one_line(of, shape):
    with pytest.raises(ValueError, match=r"^matrix: must be square, \(\.\.\., d, d\), not \("):
        of(torch.zeros(shape))


# Rank-deficient square roots


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("root", [sqrtm, lambda a: powerm(a, 0.5)], ids=["sqrtm", "powerm"])
def test_the_root_of_a_product_of_any_rank_is_finite_and_squares_to_it(root, seed, dtype):
    x = random(4, 8, 3, seed=seed).to(dtype)
    matrix = x @ x.mT
    result = root(matrix)
    torch.testing.assert_close(result @ result, matrix, rtol=0, atol=100 * torch.finfo(dtype).eps * matrix.abs().max().item())


def test_truly_negative_eigenvalues_have_no_root():
    assert sqrtm(torch.diag(torch.tensor([1.0, -1e-3]))).isnan().any()


@pytest.mark.parametrize("function", [Sqrt(), Product(Sqrt(), Exp(-1.0))], ids=str)
def test_the_gradient_of_a_root_is_that_of_factors_of_a_constant_rank(function):
    """f(X X^T) = X (f(x) / x)(X^T X) X^T: infinite slopes between directions that X does not reach play no part."""
    x, grad_output = random(5, 2).requires_grad_(), random(5, 5, seed=1)
    small, _ = matrix_function(x.mT @ x, function.over_argument())
    expected = x @ small @ x.mT
    result, _ = matrix_function(x @ x.mT, function)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(value, x, grad_output)[0] for value in (result, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


def test_a_zero_matrix_has_the_root_zero_and_no_gradient():
    matrix = torch.zeros(3, 3, requires_grad=True)
    root = sqrtm(matrix)
    root.sum().backward()
    assert not root.any() and not matrix.grad.any()


@pytest.mark.parametrize("ratio", [1.0, 1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("kind", ["dead channels", "ties"])
def test_exact_is_exact_for_every_shift(kind, ratio):
    """Against formulas: diag(a, b I) rotated, with b of 0 (dead channels) or 1 (ties), shifted by a part of its trace."""
    rotation = torch.linalg.qr(random(40, 40)).Q
    values = torch.cat([torch.linspace(1, 3, 30), torch.full((10,), float(kind == "ties"))]).double()
    matrix = ((rotation * values) @ rotation.mT).requires_grad_()
    shift, grad_output = ratio * values.sum().item(), random(40, 40, seed=1)
    roots = (values + shift).sqrt()
    rotated = rotation.mT @ ((grad_output + grad_output.mT) / 2) @ rotation
    for function, of_values, kernel in (
        (sqrtm, roots, 1 / (roots[:, None] + roots)),
        (inverse_sqrtm, 1 / roots, -1 / (roots[:, None] * roots * (roots[:, None] + roots))),
    ):
        result = function(matrix, shift=shift)
        (gradient,) = torch.autograd.grad(result, matrix, grad_output)
        for found, expected in (
            (result.detach(), (rotation * of_values) @ rotation.mT),
            (gradient, rotation @ (kernel * rotated) @ rotation.mT),
        ):
            rounding = torch.finfo(torch.float64).eps * (1 / ratio + 1000) * expected.abs().max().item()
            torch.testing.assert_close(found, expected, rtol=0, atol=rounding)


# Devices


@each_method
def test_every_method_runs_on_meta_tensors_forward_and_backward(method):
    matrix = torch.empty(2, 5, 5, device="meta", requires_grad=True)
    root, eigenvalues = matrix_function(matrix, Sqrt(), method, shift=0.1)
    root.sum().backward()
    assert root.shape == matrix.grad.shape == (2, 5, 5) and eigenvalues.shape == (2, 5)
    assert root.device == eigenvalues.device == matrix.grad.device == torch.device("meta")


def test_a_method_made_on_the_meta_device_works_on_any_other():
    series.published_pade.cache_clear()
    with torch.device("meta"):
        method = Pade(50)
    matrix = torch.diag(torch.tensor([3.0, 1.0])).requires_grad_()
    sqrtm(matrix, method).sum().backward()
    assert matrix.grad.isfinite().all() and matrix.grad.device.type == "cpu"


# Torch's own


@pytest.mark.skipif(not hasattr(torch.linalg, "matrix_sqrth"), reason="torch before 2.14")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_square_root_is_that_of_torch(dtype):
    x = random(2, 5, 8).to(dtype)
    matrix = (x @ x.mT).requires_grad_()
    grad_output = random(2, 5, 5, seed=1).to(dtype)
    results = [root(matrix) for root in (sqrtm, torch.linalg.matrix_sqrth)]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(result, matrix, grad_output + grad_output.mT)[0] for result in results]
    torch.testing.assert_close(*((gradient + gradient.mT) / 2 for gradient in gradients), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch.linalg, "polar"), reason="torch before 2.14")
def test_the_whitened_features_are_the_orthogonal_polar_factor():
    """X = (X X^T)^(1/2) U with U = (X X^T)^(-1/2) X."""
    x = random(2, 4, 7)
    unitary = torch.linalg.polar(x.mT)[0].mT
    torch.testing.assert_close(inverse_sqrtm(x @ x.mT) @ x, unitary)
