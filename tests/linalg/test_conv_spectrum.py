"""Singular values and bounds against the dense matrix of the operator, and against the published code."""

import pytest
import torch
from torch.autograd import gradcheck

from spectral_repro.linalg import conv_norm, conv_norm_bound, conv_singular_values, conv_symbol
from spectral_repro.linalg.conv_spectrum import exceed
from tests.golden_numbers import EVERY_SEED, golden_numbers
from tests.tolerance import assert_near


def test_singular_values_are_those_of_the_dense_operator(convolution):
    weight = convolution.weight()
    values, dense = conv_singular_values(weight, **convolution.arguments), convolution.circular(weight)
    assert_near(values, torch.linalg.svdvals(dense), terms=sum(dense.shape))


def test_norm_is_that_of_the_dense_operator(convolution, monkeypatch):
    weight = convolution.weight()
    expected = torch.linalg.matrix_norm(convolution.circular(weight), 2)
    assert_near(conv_norm(weight, **convolution.arguments), expected, terms=weight.numel())
    monkeypatch.setattr(conv_symbol, "BATCH", 1)
    assert_near(conv_norm(weight, **convolution.arguments), expected, terms=weight.numel())


@EVERY_SEED
@pytest.mark.parametrize("stride", [1, 2])
def test_published_singular_values(stride, seed):
    numbers = golden_numbers(f"senderovich2022_clip_s{stride}", seed)
    values = conv_singular_values(numbers["weight"], int(numbers["input_size"]), int(numbers["stride"]))
    assert_near(values, numbers["singular_values"], numbers["weight"].numel())


def test_float32_is_good_to_a_millionth(make_convolution):
    convolution = make_convolution((96, 64, 3, 3), (8, 8))
    weight = convolution.weight(torch.float32)
    exact = conv_singular_values(weight.double(), 8)
    values = conv_singular_values(weight, 8)
    assert values.dtype == torch.float32
    assert (values - exact).abs().max() < 2e-6 * exact[0]
    assert conv_norm(weight, 8).item() == pytest.approx(exact[0].item(), rel=1e-6)


def test_a_channels_last_weight_and_autocast_change_nothing(make_convolution):
    weight = make_convolution((6, 4, 3, 3), (8, 8)).weight(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        there = conv_norm(weight.to(memory_format=torch.channels_last), 8)
    assert_near(there, conv_norm(weight, 8), terms=weight.numel())


def test_singular_values_are_differentiable(make_convolution):
    weight = make_convolution((2, 2, 3, 2), (4, 4), (2, 1)).weight().requires_grad_()
    assert gradcheck(lambda w: conv_singular_values(w, (4, 3), (2, 1)).square().log1p().sum(), (weight,))


@pytest.mark.parametrize("iterations", [0, 2, 5])
def test_gram_iteration_is_an_upper_bound_with_the_documented_accuracy(iterations, convolution):
    weight = convolution.weight()
    exact = torch.linalg.matrix_norm(convolution.circular(weight), 2).item()
    bound = conv_norm_bound(weight, **convolution.arguments, iterations=iterations).item()
    smaller = min(len(weight) // convolution.groups, weight.shape[1] * convolution.stride[0] * convolution.stride[1])
    assert exact * (1 - 1e-12) <= bound <= exact * smaller ** (2 ** -(iterations + 2)) * (1 + 1e-12)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1)])
def test_one_bound_for_every_size_and_zero_padding(padding, convolution):
    weight, options = convolution.weight(), convolution.arguments
    del options["input_size"]
    bound = conv_norm_bound(weight, **options).item()
    extent = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], convolution.dilation, strict=True)]
    if all(n + 2 * p >= e for n, p, e in zip(convolution.size, padding, extent, strict=True)):
        assert torch.linalg.matrix_norm(convolution.zero_padded(weight, padding), 2) <= bound * (1 + 1e-12)
    for multiple in (1, 2, 3, 7, 16):
        size = tuple(multiple * s for s in convolution.stride)
        assert conv_norm(weight, size, **options) <= bound * (1 + 1e-12)
    assert bound <= 1.05 * conv_norm(weight, tuple(64 * s for s in convolution.stride), **options)


def test_the_circular_operator_on_more_pixels_bounds_the_zero_padded_one(make_convolution):
    for seed in range(5):
        convolution = make_convolution((4, 3, 3, 3), (5, 4))
        weight = convolution.weight(seed=seed)
        truth = torch.linalg.matrix_norm(convolution.zero_padded(weight, (1, 1)), 2)
        assert truth <= conv_norm(weight, (6, 5)) <= 1.5 * truth


def test_the_bound_is_differentiable(make_convolution):
    weight = make_convolution((2, 2, 3, 3), (4, 4)).weight().requires_grad_()
    assert gradcheck(lambda w: conv_norm_bound(w, 4, iterations=2), (weight,))


def test_a_zero_kernel_has_a_zero_spectrum():
    weight = torch.zeros(2, 3, 3, 3)
    assert conv_norm(weight, 4) == 0 and conv_norm_bound(weight, 4) < 1e-15
    assert torch.equal(conv_singular_values(weight, 4), torch.zeros(32))


def test_groups_are_not_multiplied(make_convolution):
    weight = make_convolution((4, 2, 3, 3), (4, 4)).weight()
    parts = [conv_norm(part, 4) for part in weight.split(2)]
    torch.testing.assert_close(conv_norm(weight, 4, groups=2), max(parts))


def test_cholesky_tells_eigenvalues_above_the_limit(symmetric):
    matrices = torch.stack([symmetric((4.0, 3.0, 1.0)), symmetric((2.0, 2.0, 2.0)), symmetric((3.9, 0.0, 0.0))])
    gram = matrices.to(torch.complex128)
    assert exceed(gram, 3.95).tolist() == [True, False, False]
    assert exceed(gram.to(torch.complex64), 4 * (1 + 2e-6)).tolist() == [False] * 3
    assert exceed(gram.to(torch.complex64), 4 * (1 - 2e-6)).tolist() == [True, False, False]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite_has_no_norm(value):
    assert conv_norm(torch.full((2, 2, 3, 3), value), 4).isnan()


def orthogonal_kernel() -> torch.Tensor:
    matrix = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0))).Q
    return torch.nn.functional.pad(matrix[:, :, None, None], (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("weight", "norm"),
    [
        (torch.nn.init.dirac_(torch.empty(16, 16, 3, 3)), 1),
        (torch.zeros(16, 16, 3, 3), 0),
        (orthogonal_kernel(), 1),
        (torch.randn(16, 16, 3, 3, generator=torch.Generator().manual_seed(0)), None),
    ],
    ids=["dirac", "zero", "orthogonal", "random"],
)
def test_the_norm_takes_no_more_decompositions_than_there_are_blocks(weight, norm, monkeypatch):
    """However many blocks have the largest norm. A Cholesky factorisation takes a fraction of the time of eigenvalues."""
    counts = {"eigvalsh": 0, "cholesky_ex": 0}

    def counted(name):
        original = getattr(torch.linalg, name)

        def run(matrices):
            counts[name] += len(matrices) if matrices.dim() > 2 else 1
            return original(matrices)

        return run

    for name in counts:
        monkeypatch.setattr(torch.linalg, name, counted(name))
    expected = conv_singular_values(weight, 16)[0] if norm is None else torch.tensor(float(norm))
    torch.testing.assert_close(conv_norm(weight, 16), expected, rtol=1e-5, atol=0)
    blocks = len(conv_symbol.Symbol(weight, 16).multiplicity)
    assert counts["eigvalsh"] <= blocks + 1 and counts["cholesky_ex"] <= 2 * blocks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_and_its_bound_scale_with_the_weight(dtype: torch.dtype):
    """Also where squares of the weight overflow or underflow."""
    weight = torch.randn(4, 3, 3, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    norm, bound = conv_norm(weight, 6), conv_norm_bound(weight, 6)
    exponent = 100 if dtype == torch.float32 else 900
    for scale in (2.0**exponent, 2.0**-exponent):
        assert_near(conv_norm(scale * weight, 6) / scale, norm, terms=100)
        leaf = (scale * weight).requires_grad_()
        scaled = conv_norm_bound(leaf, 6)
        assert_near(scaled.detach() / scale, bound, terms=100)
        (gradient,) = torch.autograd.grad(scaled, leaf)  # that of a homogeneous function
        assert_near((gradient * (leaf.detach() / scale)).sum(), bound, terms=1000)
    assert conv_norm(0 * weight, 6) == conv_norm_bound(0 * weight, 6) == 0


def test_arguments_are_checked_also_for_a_weight_of_zeros():
    zeros = torch.zeros(4, 3, 3, 3)
    with pytest.raises(ValueError, match="must be a multiple of stride"):
        conv_norm(zeros, 7, stride=2)
    with pytest.raises(ValueError, match="iterations=-1: must be a whole number >= 0"):
        conv_norm_bound(zeros, iterations=-1)
