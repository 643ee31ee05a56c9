"""Orthogonalised kernels against the polar factor of the dense operator."""

import pytest
import torch

from spectral_repro.linalg import conv_singular_values, orthogonalise_conv


def test_it_is_the_kernel_nearest_to_the_polar_factor_of_the_operator(convolution):
    """Orthogonal projection of the polar factor on the operators of kernels of the size, by least squares."""
    weight = convolution.weight()
    dense = convolution.circular(weight)
    left, values, right = torch.linalg.svd(dense, full_matrices=False)
    if values[-1] < 1e-9 * values[0]:  # then the polar factor is not unique
        assert orthogonalise_conv(weight, **convolution.arguments).isfinite().all()
        return
    units = torch.eye(weight.numel(), dtype=weight.dtype).view(-1, *weight.shape)
    operators = torch.stack([convolution.circular(unit).flatten() for unit in units], -1)
    nearest = operators @ torch.linalg.lstsq(operators, (left @ right).flatten()[:, None], driver="gelsd").solution[:, 0]
    found = orthogonalise_conv(weight, **convolution.arguments)
    assert found.shape == weight.shape
    torch.testing.assert_close(convolution.circular(found).flatten(), nearest, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 5), (6, 4), (4, 6)])
def test_a_kernel_of_one_tap_becomes_its_polar_factor(shape):
    weight = torch.randn(*shape, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tall = weight[:, :, 0, 0] if shape[0] >= shape[1] else weight[:, :, 0, 0].mT
    expected = torch.linalg.polar(tall)[0]
    found = orthogonalise_conv(weight, 8)[:, :, 0, 0]
    torch.testing.assert_close(found if shape[0] >= shape[1] else found.mT, expected)


def test_a_kernel_that_fills_the_map_becomes_orthogonal(make_convolution):
    for convolution in (make_convolution((4, 4, 4, 4), (4, 4)), make_convolution((2, 3, 4, 4), (4, 4), (2, 2))):
        kernel = orthogonalise_conv(convolution.weight(), **convolution.arguments)
        values = conv_singular_values(kernel, **convolution.arguments)
        torch.testing.assert_close(values, torch.ones_like(values))
        again = orthogonalise_conv(3 * kernel, **convolution.arguments)
        torch.testing.assert_close(again, kernel)
