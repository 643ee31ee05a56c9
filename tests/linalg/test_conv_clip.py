"""Clipping against the singular value decomposition of the dense operator, and against the published code."""

from itertools import pairwise

import pytest
import torch

from spectral_repro.linalg import clip_conv, conv_clip, conv_norm
from spectral_repro.linalg.conv_symbol import Symbol
from tests.golden_numbers import EVERY_SEED, golden_numbers
from tests.tolerance import assert_near


def dense_clip(convolution, weight, limit):
    """The dense operator with its singular values clipped."""
    left, values, right = torch.linalg.svd(convolution.circular(weight), full_matrices=False)
    return left * values.clamp_max(limit) @ right


def test_the_result_is_the_kernel_nearest_to_the_clipped_operator(convolution):
    """Orthogonal projection of the clipped matrix on the operators of kernels of the size, by least squares."""
    weight = convolution.weight()
    limit = 0.5 * conv_norm(weight, **convolution.arguments).item()
    units = torch.eye(weight.numel(), dtype=weight.dtype).view(-1, *weight.shape)
    operators = torch.stack([convolution.circular(unit).flatten() for unit in units], -1)
    target = dense_clip(convolution, weight, limit).flatten()
    nearest = operators @ torch.linalg.lstsq(operators, target[:, None], driver="gelsd").solution[:, 0]
    clipped = clip_conv(weight, clip_to=limit, **convolution.arguments)
    assert clipped.shape == weight.shape and clipped is not weight
    torch.testing.assert_close(convolution.circular(clipped).flatten(), nearest, rtol=1e-9, atol=1e-9)


def test_without_a_crop_clipping_is_exact(make_convolution):
    for convolution in (make_convolution((4, 3, 6, 6), (6, 6)), make_convolution((3, 4, 3, 3), (2, 2))):
        weight = convolution.weight()
        limit = 0.5 * conv_norm(weight, convolution.size).item()
        clipped = clip_conv(weight, convolution.size, limit)
        torch.testing.assert_close(convolution.circular(clipped), dense_clip(convolution, weight, limit))


@EVERY_SEED
@pytest.mark.parametrize("stride", [1, 2])
def test_published_clip_and_division(stride, seed):
    numbers = golden_numbers(f"senderovich2022_clip_s{stride}", seed)
    weight, size, stride, limit = (numbers[key] for key in ("weight", "input_size", "stride", "clip_to"))
    size, stride, limit = int(size), int(stride), float(limit)
    condition = (numbers["singular_values"].max() / limit).item()
    assert_near(clip_conv(weight, size, limit, stride), numbers["clipped"], weight.numel(), condition)
    divided = weight / conv_clip.divisor(conv_norm(weight, size, stride), limit)
    assert_near(divided, numbers["divided_exact"], weight.numel())


def test_weights_within_the_bound_are_unchanged(convolution):
    weight = convolution.weight()
    largest = conv_norm(weight, **convolution.arguments).item()
    for factor in (1 + 1e-9, 1.5, 100):
        assert clip_conv(weight, clip_to=factor * largest, **convolution.arguments) is weight
    tiny = torch.full_like(weight, 1e-200)  # the square of the bound divided by the largest entry is not finite
    assert clip_conv(tiny, clip_to=1.0, **convolution.arguments) is tiny


@pytest.mark.parametrize("stride", [1, 2])
def test_a_bound_from_samples_never_hides_an_excess(stride, make_convolution):
    """A large map, where it is used: kernels whose spectrum has a narrow peak between the samples."""
    for seed in range(10):
        weight = make_convolution((3, 3, 3, 3), (32, 32)).weight(seed=seed)
        largest = conv_norm(weight, 32, stride).item()
        assert clip_conv(weight, 32, 0.999 * largest, stride) is not weight


def test_rounds_bring_the_bound_within_the_tolerance(make_convolution):
    convolution = make_convolution((8, 8, 3, 3), (8, 8))
    weight = convolution.weight()
    limit = 0.4 * conv_norm(weight, 8).item()
    excess = [conv_norm(clip_conv(weight, 8, limit, rounds=rounds), 8).item() / limit for rounds in (1, 2, 5, 20, 50)]
    assert all(later < earlier for earlier, later in pairwise(excess))
    assert 1.1 < excess[0] < 1.5 and excess[-1] < 1.002
    enough = clip_conv(weight, 8, limit, rounds=1000, tolerance=0.01)
    assert 1.0 < conv_norm(enough, 8) / limit <= 1.01
    assert clip_conv(enough, 8, limit, rounds=1000, tolerance=0.011) is enough


def test_only_blocks_above_the_bound_are_decomposed(make_convolution, monkeypatch):
    """One of each conjugate pair, and those alone."""
    weight, decomposed = make_convolution((4, 4, 3, 3), (8, 8)).weight(), []
    symbol = Symbol(weight, 8)
    largest = torch.linalg.matrix_norm(symbol.blocks(symbol.parts[0]), 2)[:, 0]
    limit = largest.median().item() * (1 + 1e-9)
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda gram: decomposed.append(len(gram)) or eigh(gram))
    clip_conv(weight, 8, limit)
    assert sum(decomposed) == (largest > limit).sum() == 17


@pytest.mark.parametrize(("ratio", "error"), [(2, 4e-6), (10, 2e-5), (31, 6e-5), (100, 2e-5), (1000, 2e-4)])
def test_float32_has_the_documented_accuracy(ratio, error, make_convolution):
    """Relative to the bound, as an operator: 2e-6 of the largest singular value up to 32 times the bound, 2e-7 above."""
    weight = make_convolution((64, 48, 3, 3), (8, 8)).weight(torch.float32)
    limit = conv_norm(weight, 8).item() / ratio
    difference = clip_conv(weight, 8, limit).double() - clip_conv(weight.double(), 8, limit)
    assert conv_norm(difference, 8) < error * limit


def test_wrong_bounds_and_weights_are_refused():
    weight = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    for limit in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"clip_to={limit}: must be a number > 0"):
            clip_conv(weight, 4, limit)
    with pytest.raises(ValueError, match="rounds=0: must be a whole number >= 1"):
        clip_conv(weight, 4, 1.0, rounds=0)
    with pytest.raises(ValueError, match="input_size="):
        clip_conv(weight, 33, 100.0, stride=2)


@pytest.mark.parametrize("scale", [2.0**100, 2.0**-100])
def test_clipping_scales_with_the_weight_and_the_bound(scale: float):
    """Also where squares of the weight overflow or underflow."""
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    clipped = clip_conv(weight, 6, 1.0, rounds=2)
    assert_near(clip_conv(scale * weight, 6, scale, rounds=2) / scale, clipped, terms=100)


def test_a_weight_that_is_not_finite_is_left_to_others():
    weight = torch.tensor([1.0, torch.nan]).expand(3, 3, 3, 2)
    assert clip_conv(weight, 4, 1.0) is weight


def test_division_leaves_what_is_within_the_bound():
    assert conv_clip.divisor(torch.tensor([3.0, 4.0, 8.0]), 4.0).tolist() == [1.0, 1.0, 2.0]
