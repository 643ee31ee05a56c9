"""The layers against what wang2019's published code computes, and against its formulas for other seeds (float64)."""

import pytest
import torch

from spectral_repro.layers import PCADenoising, ZCAWhitening
from spectral_repro.linalg.backward import PowerIteration
from tests.golden_numbers import EVERY_SEED, golden_numbers
from tests.tolerance import assert_near

FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


def set_affine(layer, golden):
    with torch.no_grad():
        layer.weight.copy_(golden["weight"])
        layer.bias.copy_(golden["bias"])


def assert_matches(value, golden):
    assert_near(value.detach(), golden, terms=1000, condition=1e4)  # variances of about 1 over eps = 1e-4


@FORMATS
@EVERY_SEED
@pytest.mark.parametrize("d", [4, 8, 16])
def test_two_training_steps_and_evaluation_of_zca_whitening(d, seed, memory_format):
    golden = golden_numbers(f"wang2019_zca_svdpi_d{d}", seed)
    assert (golden["eps"], golden["momentum"], golden["iterations"]) == (1e-4, 0.1, 19)
    layer = ZCAWhitening(16, d, PowerIteration(19), truncation="reference").double()
    set_affine(layer, golden)
    for index in (0, 1):
        x = golden[f"x{index}"].clone(memory_format=memory_format).requires_grad_()
        layer.zero_grad()
        y = layer(x)
        y.backward(golden[f"g{index}"])
        assert_matches(y, golden[f"y{index}"])
        assert_matches(x.grad, golden[f"dx{index}"])
        assert_matches(layer.weight.grad, golden[f"dweight{index}"])
        assert_matches(layer.bias.grad, golden[f"dbias{index}"])
    assert_matches(layer.running_mean, golden["running_mean"])
    assert_matches(layer.running_matrix, golden["running_matrices"])
    layer.eval()
    assert_matches(layer(golden["x_eval"].contiguous(memory_format=memory_format)), golden["y_eval"])


@FORMATS
@EVERY_SEED
def test_a_training_step_of_pca_denoising(seed, memory_format):
    golden = golden_numbers("wang2019_pca_svdpi", seed)
    assert (golden["eps"], golden["components"], golden["iterations"]) == (1e-4, 16, 19)
    layer = PCADenoising(24, 16, backward=PowerIteration(19)).double()
    set_affine(layer, golden)
    x = golden["x"].clone(memory_format=memory_format).requires_grad_()
    y = layer(x)
    y.backward(golden["g"])
    assert_matches(y, golden["y"])
    assert_matches(x.grad, golden["dx"])
