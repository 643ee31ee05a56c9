"""Power iteration against the dense matrix of what torch computes."""

import pytest
import torch

from spectral_repro.linalg import conv_power_iteration


def fits(convolution, padding):
    extents = ((k - 1) * d + 1 for k, d in zip(convolution.shape[2:], convolution.dilation, strict=True))
    return all(n + 2 * padding >= extent for n, extent in zip(convolution.size, extents, strict=True))


def start(convolution, dtype=torch.float64):
    channels = convolution.shape[1] * convolution.groups
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, channels, *convolution.size, generator=generator, dtype=torch.float64).to(dtype)


def options(convolution, padding):
    return {key: value for key, value in convolution.arguments.items() if key != "input_size"} | {"padding": padding}


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_it_converges_from_below_to_the_norm_of_the_zero_padded_operator(padding, convolution):
    if not fits(convolution, padding):
        padding += 6
    weight, x = convolution.weight(), start(convolution)
    exact = torch.linalg.matrix_norm(convolution.zero_padded(weight, (padding, padding)), 2).item()
    few, x = conv_power_iteration(weight, x, **options(convolution, padding))
    many, x = conv_power_iteration(weight, x, **options(convolution, padding), iterations=300)
    assert few < exact * (1 + 1e-12) and many < exact * (1 + 1e-12)
    assert many.item() == pytest.approx(exact, rel=0.01)
    assert x.norm().item() == pytest.approx(1)


@pytest.mark.parametrize("size", [7, 8, 9])
def test_sizes_that_the_stride_does_not_divide(size, make_convolution):
    convolution = make_convolution((3, 2, 3, 3), (size, size), (2, 3))
    weight = convolution.weight()
    found, x = conv_power_iteration(weight, start(convolution), (2, 3), padding=1, iterations=500)
    assert x.shape == (1, 2, size, size)
    assert found.item() == pytest.approx(torch.linalg.matrix_norm(convolution.zero_padded(weight, (1, 1)), 2).item(), rel=1e-6)


def test_power_iteration_can_be_continued(make_convolution):
    convolution = make_convolution((4, 4, 3, 3), (6, 6))
    weight, x = convolution.weight(), start(convolution)
    at_once, _ = conv_power_iteration(weight, x, padding=1, iterations=6)
    for _ in range(3):
        in_turn, x = conv_power_iteration(weight, x, padding=1, iterations=2)
    torch.testing.assert_close(in_turn, at_once)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_iterates_of_any_scale_stay_finite(scale, make_convolution):
    convolution = make_convolution((4, 4, 3, 3), (6, 6))
    weight, x = convolution.weight(torch.float32), start(convolution, torch.float32)
    plain, _ = conv_power_iteration(weight, x, padding=1, iterations=50)
    scaled, _ = conv_power_iteration(scale * weight, x, padding=1, iterations=50)
    torch.testing.assert_close(scaled / scale, plain)


def test_autocast_changes_nothing(make_convolution):
    convolution = make_convolution((4, 4, 3, 3), (6, 6))
    weight, x = convolution.weight(torch.float32), start(convolution, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        there, _ = conv_power_iteration(weight, x, padding=1)
    assert there == conv_power_iteration(weight, x, padding=1)[0]


def test_a_zero_kernel_has_norm_zero():
    found, x = conv_power_iteration(torch.zeros(2, 2, 3, 3), torch.ones(1, 2, 4, 4), padding=1)
    assert found == 0 and x.isfinite().all()


def test_what_has_no_meaning_is_refused():
    weight, x = torch.zeros(2, 2, 3, 3), torch.ones(1, 2, 2, 2)
    with pytest.raises(ValueError, match="padding=0: too little for a kernel of 3 x 3 on a map of 2 x 2"):
        conv_power_iteration(weight, x)
    with pytest.raises(ValueError, match="iterations=0: must be a whole number >= 1"):
        conv_power_iteration(weight, x, padding=1, iterations=0)
    with pytest.raises(ValueError, match=r"start: must be \(1, C_in, H, W\) .*, got \(2, 2, 2\)"):
        conv_power_iteration(weight, x[0], padding=1)


def test_the_vector_of_a_zero_kernel_is_kept_and_converges_later():
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    _, after = conv_power_iteration(torch.zeros(2, 2, 3, 3), x, padding=1)
    assert torch.equal(after, x)
    weight = torch.nn.init.dirac_(torch.empty(2, 2, 3, 3))
    assert conv_power_iteration(weight, after, padding=1)[0].item() == pytest.approx(1, rel=1e-6)
