"""Functions of the covariance of features against the large form: all C eigenvalues, those of the null space being 0."""

from itertools import product
from math import exp, sqrt

import pytest
import torch
from hypothesis import given, settings
from torch.autograd import gradcheck

from spectral_repro.linalg.backward import (
    Exact,
    Lyapunov,
    NewtonSchulz,
    Pade,
    PlainSVD,
    PowerIteration,
    Taylor,
    TopN,
    Truncated,
)
from spectral_repro.linalg.feature_covariance import covariance, covariance_functions
from spectral_repro.linalg.functions import Exp, Power, Product, Sqrt
from tests import degenerate
from tests.tolerance import assert_near, relative_error, tolerance

SPECTRUM = (4.0, 2.5, 1.0, 0.6, 0.3, 0.1)


def features(eigenvalues, channels, positions, seed=0):
    """Float64 X (C, P) whose covariance has these nonzero eigenvalues, with random eigenvectors and channel means."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    rank = len(eigenvalues)
    left = torch.linalg.qr(random(channels, rank)).Q
    right = random(positions, rank)
    right = torch.linalg.qr(right - right.mean(0)).Q
    sizes = (positions * torch.tensor(eigenvalues, dtype=torch.float64)).sqrt()
    return left * sizes @ right.T + random(channels, 1)


def duplicated(positions):
    """Every channel twice."""
    return features(SPECTRUM[::2], 3, positions).repeat_interleave(2, 0)


def with_dead_channels(positions):
    """Every other channel zero."""
    return torch.stack([features(SPECTRUM[::2], 3, positions), torch.zeros(3, positions, dtype=torch.float64)], 1).flatten(0, 1)


# Features, the rank of their covariance, and its largest eigenvalue over the smallest that is not 0.
CASES = {
    "full rank": (features(SPECTRUM, 6, 20), 6, 40),
    "one position more": (features(SPECTRUM, 6, 7), 6, 40),
    "as many positions": (features(SPECTRUM[1:], 6, 6), 5, 25),
    "deficient": (features(SPECTRUM[::2], 6, 20), 3, 13.3),
    "gram": (features(SPECTRUM[2:], 12, 5), 4, 10),
    "gram, large and ill-conditioned": (features((4.0, 2.5, 0.1, 1e-3), 64, 20), 4, 4e3),
    "gram, deficient": (features(SPECTRUM[::2], 12, 8), 3, 13.3),
    "duplicate channels": (duplicated(20), 3, 13.3),
    "gram, duplicate channels": (duplicated(5), 3, 13.3),
    "dead channels": (with_dead_channels(20), 3, 13.3),
    "gram, dead channels": (with_dead_channels(5), 3, 13.3),
}
EVERY_CASE = pytest.mark.parametrize(("x", "rank", "condition"), CASES.values(), ids=CASES)


def exact(i, j, e, f):
    return (f(e[i]) - f(e[j])) / (e[i] - e[j])


def truncated(i, j, e, f):
    return (f(e[i]) - f(e[j])) * min(1 / (e[i] - e[j]), 1.5)


def top_three(i, j, e, f):
    if j < 3:
        return exact(i, j, e, f)
    return f(e[i]) / e[i] if i < 3 else 0.0


def taylor(i, j, e, f):
    return (f(e[i]) - f(e[j])) * sum((e[j] / e[i]) ** k for k in range(4)) / e[i]


def power_iteration(i, j, e, f):
    ratios = [(e[j] / e[i]) ** k for k in range(4)]
    return (f(e[i]) * sum(ratios) - f(e[j]) * sum(ratios[:-1])) / e[i]


# Every method with parameters that show, and the kernel between the i-th and the j-th eigenvalue, i < j.
KERNELS = {
    "exact": (Exact(), exact),
    "svd": (PlainSVD(), exact),
    "truncated": (Truncated(1.5), truncated),
    "topn": (TopN(3), top_three),
    "taylor": (Taylor(3), taylor),
    "pade": (Pade(), exact),
    "pi": (PowerIteration(3), power_iteration),
}
METHODS = {name: method for name, (method, _) in KERNELS.items()} | {
    "newton_schulz": NewtonSchulz(3),
    "lyapunov": Lyapunov(3),
}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
ROBUST = pytest.mark.parametrize(
    "method",
    [Exact(), Taylor(), Truncated(), PowerIteration(), NewtonSchulz(), Lyapunov()],
    ids=["exact", "taylor", "truncated", "pi", "newton_schulz", "lyapunov"],
)
BOTH_PATHS = pytest.mark.parametrize("positions", [20, 5], ids=["covariance", "gram"])


def random_gradient(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)


def value_and_gradient(x, function, method, gradient):
    x = x.clone().requires_grad_()
    (result,) = covariance_functions(x, [(function, method)])
    result.backward(gradient)
    return result.detach(), x.grad


def differentiable_covariance(x):
    x = x.clone().requires_grad_()
    centred = x - x.mean(1, keepdim=True)
    return x, centred @ centred.T / x.shape[1]


def decomposed(matrix, rank):
    """All eigenvalues as numbers, largest first, those beyond the rank set to 0, and the eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix.detach())
    return [value if index < rank else 0.0 for index, value in enumerate(values.flip(0).tolist())], vectors.flip(1)


def large_form(x, rank, f, derivative, name, gradient):
    """F and dL/dX from the whole covariance, an entry of the kernel at a time; 0 among zeros, where X has no part."""
    x, matrix = differentiable_covariance(x)
    e, vectors = decomposed(matrix, rank)
    kept = min(3, rank) if name == "topn" else rank
    table = torch.zeros_like(matrix)
    for i in range(rank):
        table[i, i] = derivative(e[i]) if i < kept else 0.0
        for j in range(i + 1, len(e)):
            table[i, j] = table[j, i] = KERNELS[name][1](i, j, e, f)
    matrix.backward(vectors @ (table * (vectors.T @ (gradient + gradient.T) @ vectors / 2)) @ vectors.T)
    values = [f(value) if i < kept else 0.0 for i, value in enumerate(e)]
    return vectors * torch.tensor(values, dtype=torch.float64) @ vectors.T, x.grad


def square_root(matrix, rank):
    e, vectors = decomposed(matrix, rank)
    return vectors * torch.tensor(e, dtype=torch.float64).sqrt() @ vectors.T


# Against the large form


@EVERY_CASE
def test_covariance(x, rank, condition):
    torch.testing.assert_close(covariance(x), torch.cov(x, correction=0))
    assert torch.linalg.matrix_rank(covariance(x)) == rank


FUNCTIONS = {
    "square root": (Sqrt(), sqrt, lambda a: 0.5 / sqrt(a)),
    "power": (Power(0.3), lambda a: a**0.3, lambda a: 0.3 * a**-0.7),
    "damped root": (
        Product(Sqrt(), Exp(-1.0)),
        lambda a: sqrt(a) * exp(-a),
        lambda a: exp(-a) * (0.5 / sqrt(a) - sqrt(a)),
    ),
}


@EVERY_CASE
def test_value_and_gradient_are_those_of_the_large_form(x, rank, condition):
    gradient = random_gradient(len(x), len(x))
    for name, (function, f, derivative) in product(KERNELS, FUNCTIONS.values()):
        value, result = value_and_gradient(x, function, METHODS[name], gradient)
        large_value, large_result = large_form(x, rank, f, derivative, name, gradient)
        assert relative_error(value, large_value) < tolerance(torch.float64, x.numel(), condition), name
        assert relative_error(result, large_result) < tolerance(torch.float64, x.numel(), condition), name


@EVERY_CASE
@pytest.mark.parametrize("iterations", [3, 10])
def test_newton_schulz_is_the_iteration_on_the_large_covariance(iterations, x, rank, condition):
    gradient = random_gradient(len(x), len(x))
    value, grad = value_and_gradient(x, Sqrt(), NewtonSchulz(iterations), gradient)
    large, matrix = differentiable_covariance(x)
    identity = torch.eye(len(x), dtype=torch.float64)
    y, z = matrix / matrix.trace(), identity
    for _ in range(iterations):
        step = (3 * identity - z @ y) / 2
        y, z = y @ step, step @ z
    (matrix.trace().sqrt() * y).backward(gradient)
    assert_near(value, square_root(matrix, rank), iterations * x.numel(), condition)
    assert_near(grad, large.grad, iterations * x.numel(), condition)


@EVERY_CASE
@pytest.mark.parametrize("iterations", [3, 8])
def test_lyapunov_is_the_iteration_on_the_large_root(iterations, x, rank, condition):
    gradient = random_gradient(len(x), len(x))
    value, grad = value_and_gradient(x, Sqrt(), Lyapunov(iterations), gradient)
    large, matrix = differentiable_covariance(x)
    root = square_root(matrix, rank)
    b, c = root / root.norm(), (gradient + gradient.T) / 2 / root.norm()
    for _ in range(iterations):
        b, c = (3 * b - b @ b @ b) / 2, (3 * c - b @ b @ c + b @ c @ b - c @ b @ b) / 2
    matrix.backward(c / 2)
    assert_near(value, root, iterations * x.numel(), condition)
    assert_near(grad, large.grad, iterations * x.numel(), condition)


@EVERY_METHOD
def test_repeated_positions_change_nothing(method):
    x, gradient = features(SPECTRUM[::2], 12, 5), random_gradient(12, 12)
    value, grad = value_and_gradient(x, Sqrt(), method, gradient)
    same_value, parts = value_and_gradient(x.repeat(1, 3), Sqrt(), method, gradient)
    assert_near(value, same_value, x.numel(), condition=4 / 0.3)
    assert_near(grad, parts.view(12, 3, 5).sum(1), x.numel(), condition=4 / 0.3)


@EVERY_METHOD
def test_more_channels_by_an_isometry_change_nothing(method):
    x = features(SPECTRUM, 6, 8)
    isometry = torch.linalg.qr(random_gradient(16, 6)).Q
    gradient = random_gradient(16, 16)
    value, grad = value_and_gradient(x, Sqrt(), method, isometry.T @ gradient @ isometry)
    large_value, large_grad = value_and_gradient(isometry @ x, Sqrt(), method, gradient)
    assert_near(large_value, isometry @ value @ isometry.T, x.numel(), condition=40)
    assert_near(isometry.T @ large_grad, grad, x.numel(), condition=40)


@BOTH_PATHS
def test_a_dead_channel_learns_from_the_inverse_root_of_the_others(positions):
    """sqrt is conic at the null space: dL/dX_dead = (2 / P) sym(G)_dead,alive Sigma_alive^(-1/2) X_alive J."""
    alive, gradient = features(SPECTRUM[:4], 4, positions), random_gradient(10, 10)
    x = torch.cat([alive, torch.zeros(6, positions, dtype=torch.float64)])
    value, grad = value_and_gradient(x, Sqrt(), Exact(), gradient)
    root = square_root(covariance(alive), 4)
    centred = alive - alive.mean(1, keepdim=True)
    crossing = (gradient + gradient.T)[4:, :4] / positions
    assert_near(value, torch.block_diag(root, torch.zeros(6, 6, dtype=torch.float64)), x.numel(), condition=4 / 0.6)
    assert_near(grad[4:], crossing @ torch.linalg.solve(root, centred), x.numel(), condition=4 / 0.6)


@BOTH_PATHS
def test_lyapunov_passes_half_of_it_to_a_dead_channel(positions):
    """The sign iteration leaves an eigenvalue 0 at 0, not at 1, however many its steps."""
    x = torch.cat([features(SPECTRUM[:4], 4, positions), torch.zeros(6, positions, dtype=torch.float64)])
    gradient = random_gradient(10, 10)
    exact = value_and_gradient(x, Sqrt(), Exact(), gradient)[1]
    iterated = value_and_gradient(x, Sqrt(), Lyapunov(30), gradient)[1]
    assert_near(iterated[:4], exact[:4], 30 * x.numel(), condition=4 / 0.6)
    assert_near(iterated[4:], exact[4:] / 2, 30 * x.numel(), condition=4 / 0.6)


# Finite differences

SMALL = {"covariance": (2, 5), "as many positions": (3, 3), "gram": (4, 3)}


@pytest.mark.parametrize(("channels", "positions"), SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("function", [Sqrt(), Power(0.3), Product(Sqrt(), Exp(-1.0))], ids=["sqrt", "power", "damped"])
def test_exact_agrees_with_finite_differences(function, channels, positions):
    x = random_gradient(2, channels, positions).requires_grad_()
    assert gradcheck(lambda x: covariance_functions(x, [(function, Exact())]), (x,))


@pytest.mark.parametrize(("channels", "positions"), [(3, 5), (5, 4)], ids=["covariance", "gram"])
@pytest.mark.parametrize("method", [Exact(), PlainSVD(), NewtonSchulz(20)], ids=["exact", "svd", "newton_schulz"])
def test_gradients_agree_with_finite_differences_at_every_rank(method, channels, positions):
    """X = L R of rank 2: F is smooth in L and R, and the kernel between an eigenvalue and 0 is part of its derivative."""
    generator = torch.Generator().manual_seed(2)
    left = torch.randn(channels, 2, dtype=torch.float64, generator=generator).requires_grad_()
    right = torch.randn(2, positions, dtype=torch.float64, generator=generator).requires_grad_()
    assert gradcheck(lambda left, right: covariance_functions(left @ right, [(Sqrt(), method)]), (left, right))


@BOTH_PATHS
def test_gradients_of_several_functions_add_up(positions):
    x = features(SPECTRUM[:4], 8, positions).requires_grad_()
    terms = [(Sqrt(), Taylor(3)), (Product(Sqrt(), Exp(-1.0)), Exact())]
    gradients = random_gradient(2, 8, 8)
    torch.autograd.backward(covariance_functions(x, terms), list(gradients))
    apart = [value_and_gradient(x.detach(), *term, gradient)[1] for term, gradient in zip(terms, gradients, strict=True)]
    assert_near(x.grad, sum(apart), x.numel(), condition=4 / 0.6)


@BOTH_PATHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["narrower", "wider"])
def test_results_of_another_dtype(positions, dtype):
    """Narrower ones are wrong by some of their own roundings, whatever the smallest eigenvalue."""
    x = features((1.0, 1e-2, 1e-4, 1e-6), 8, positions)
    gradient = random_gradient(8, 8)
    exact = value_and_gradient(x, Sqrt(), Exact(), gradient)
    other = x.to(torch.float64 if dtype == torch.float32 else torch.float32).requires_grad_()
    (result,) = covariance_functions(other, [(Sqrt(), Exact())], dtype)
    result.backward(gradient.to(dtype))
    assert result.dtype == dtype and other.grad.dtype == other.dtype
    if other.dtype == torch.float64:
        assert relative_error(result.detach(), exact[0]) < tolerance(torch.float32)
        assert relative_error(other.grad, exact[1]) < tolerance(torch.float32)


# Degenerate features


def alike(channels, positions):
    """Distinct constants, none of which binary fractions hold."""
    return (0.1 + 0.7 * torch.arange(channels, dtype=torch.float64))[:, None].expand(channels, positions)


@EVERY_METHOD
def test_features_without_variation_have_no_covariance_and_no_gradient(method):
    for (channels, positions), dtype in product([(6, 169), (6, 7), (64, 49), (32, 1)], [torch.float64, torch.float32]):
        x = torch.stack([scale * alike(channels, positions) for scale in (0, 1e-6, 1, 1e6)]).to(dtype)
        value, grad = value_and_gradient(x, Sqrt(), method, torch.ones(4, channels, channels, dtype=dtype))
        assert value.abs().max() == 0, (channels, positions, dtype)
        assert grad.abs().max() == 0, (channels, positions, dtype)


def tied(channels, positions):
    """X (channels, P) with 3 eigenvalues 1, the others 0: rows of a Hadamard matrix, repeated."""
    row = torch.tensor([1.0, -1.0], dtype=torch.float64)
    both = torch.ones(2, dtype=torch.float64)
    rows = torch.stack([torch.kron(row, both), torch.kron(both, row), torch.kron(row, row)])
    return torch.cat([rows, torch.zeros(channels - 3, 4, dtype=torch.float64)]).repeat(1, positions // 4)


@settings(max_examples=30)
@given(x=degenerate.features(6, 20) | degenerate.features(12, 5) | degenerate.features(1, 9) | degenerate.features(9, 2))
@ROBUST
def test_no_input_of_any_scale_gives_infinity(method, x):
    """The root grows with X and its gradient does not; what bounds it is the incoming gradient alone."""
    for dtype in (torch.float64, torch.float32):
        value, grad = value_and_gradient(x.to(dtype), Sqrt(), method, random_gradient(len(x), len(x), dtype=dtype))
        assert value.isfinite().all()
        assert grad.abs().max() < 100


@ROBUST
def test_ties_and_clusters_of_any_scale_give_no_infinity(method):
    near = (1.0, 1 - 1e-9, 1 - 2e-15, 1e-9, 1e-18)
    rotated = torch.linalg.qr(random_gradient(16, 16)).Q @ tied(16, 8)
    for x in (tied(3, 4), tied(6, 8), rotated, features(near, 6, 20), features(near, 12, 8)):
        x = torch.stack([scale * x for scale in (1e-12, 1.0, 1e12)])
        value, grad = value_and_gradient(x, Sqrt(), method, random_gradient(3, x.shape[1], x.shape[1]))
        assert value.isfinite().all() and grad.abs().max() < 100


def test_equal_nonzero_eigenvalues_leave_the_plain_gradient_without_a_number():
    gradient = random_gradient(3, 3)
    assert torch.equal(covariance(tied(3, 4)), torch.eye(3, dtype=torch.float64))
    assert value_and_gradient(tied(3, 4), Sqrt(), PlainSVD(), gradient)[1].isnan().all()
    assert value_and_gradient(tied(3, 4), Sqrt(), Exact(), gradient)[1].isfinite().all()


@pytest.mark.parametrize(("channels", "positions"), [(3, 4), (6, 8), (16, 8)])
def test_exact_at_ties(channels, positions):
    """With projector P as covariance: F = P, dL/dX = (P G P + 2 (I - P) G P) X / positions."""
    rotation = torch.linalg.qr(random_gradient(channels, channels)).Q
    x, gradient = rotation @ tied(channels, positions), random_gradient(channels, channels)
    value, grad = value_and_gradient(x, Sqrt(), Exact(), gradient)
    projector, symmetric = rotation[:, :3] @ rotation[:, :3].T, (gradient + gradient.T) / 2
    assert_near(value, projector, channels)
    expected = (2 * symmetric - projector @ symmetric) @ projector @ x / positions
    assert_near(grad, expected, x.numel())


@ROBUST
@BOTH_PATHS
def test_error_of_float32(positions, method):
    """Roundings of X move the smallest singular value by its condition, the root of the covariance's; gradients divide by it.

    For eigenvalues spread evenly over their logarithm.
    """
    channels, positions = (64, 169) if positions == 20 else (169, 64)
    for condition in (1e1, 1e3, 1e4):
        spectrum = [condition ** (-k / 62) for k in range(63)]
        x, gradient = features(spectrum, channels, positions).float(), random_gradient(channels, channels)
        value, grad = value_and_gradient(x.double(), Sqrt(), method, gradient)
        single_value, single_grad = value_and_gradient(x, Sqrt(), method, gradient.float())
        assert single_value.dtype == single_grad.dtype == torch.float32
        assert relative_error(single_value.double(), value) < tolerance(torch.float32, condition=condition**0.5)
        assert relative_error(single_grad.double(), grad) < tolerance(torch.float32, condition=condition)


# Invariances


@EVERY_METHOD
@BOTH_PATHS
def test_the_root_scales_and_its_gradient_does_not(positions, method):
    x, gradient = features(SPECTRUM[:4], 8, positions), random_gradient(8, 8)
    value, grad = value_and_gradient(x, Sqrt(), method, gradient)
    for scale in (2.0**-40, 2.0**-20, 2.0**20, 2.0**40):
        scaled_method = Truncated(method.limit / scale**2) if isinstance(method, Truncated) else method
        scaled_value, scaled_grad = value_and_gradient(scale * x, Sqrt(), scaled_method, gradient)
        assert_near(scaled_value / scale, value, x.numel(), condition=4 / 0.6)
        assert_near(scaled_grad, grad, x.numel(), condition=4 / 0.6)


@EVERY_METHOD
@BOTH_PATHS
def test_constants_added_to_channels_change_nothing(positions, method):
    x, gradient = features(SPECTRUM[:4], 8, positions), random_gradient(8, 8)
    value, grad = value_and_gradient(x, Sqrt(), method, gradient)
    shifted_value, shifted_grad = value_and_gradient(x + 1e3 * random_gradient(8, 1), Sqrt(), method, gradient)
    assert_near(shifted_value, value, x.numel(), condition=1e3 * 4 / 0.6)
    assert_near(shifted_grad, grad, x.numel(), condition=1e3 * 4 / 0.6)
    assert grad.mean(1).abs().max() < tolerance(torch.float64, x.numel(), condition=4 / 0.6) * grad.abs().max()


@EVERY_METHOD
@BOTH_PATHS
def test_a_sample_does_not_depend_on_the_others(positions, method):
    x = features(SPECTRUM[:4], 8, positions)
    others = [torch.zeros_like(x), 1e12 * features(SPECTRUM[:2], 8, positions, seed=1), 1e-12 * x, alike(8, positions)]
    gradient = random_gradient(5, 8, 8)
    value, grad = value_and_gradient(torch.stack([x, *others]), Sqrt(), method, gradient)
    lonely_value, lonely_grad = value_and_gradient(x, Sqrt(), method, gradient[0])
    assert_near(value[0], lonely_value, x.numel(), condition=4 / 0.6)
    assert_near(grad[0], lonely_grad, x.numel(), condition=4 / 0.6)


@BOTH_PATHS
def test_any_number_of_batch_dimensions(positions):
    x = torch.stack([features(SPECTRUM[:4], 8, positions, seed=seed) for seed in range(6)])
    gradient = random_gradient(6, 8, 8)
    value, grad = value_and_gradient(x, Sqrt(), Exact(), gradient)
    shaped_value, shaped_grad = value_and_gradient(x.view(2, 3, 8, positions), Sqrt(), Exact(), gradient.view(2, 3, 8, 8))
    assert_near(shaped_value.flatten(0, 1), value, x.numel(), condition=4 / 0.6)
    assert_near(shaped_grad.flatten(0, 1), grad, x.numel(), condition=4 / 0.6)
