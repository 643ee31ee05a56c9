"""Weights from the SVD of inputs, against the decomposition itself."""

import pytest
import torch
from torch import Tensor

from spectral_repro.linalg.svd_weight import svd_weight


def published(inputs: Tensor, channels: int, exponent: float) -> Tensor:
    """By a full SVD of the inputs, in their own dtype."""
    u, s, vh = torch.linalg.svd(inputs, full_matrices=False)
    return u[:channels, :channels] @ torch.diag(s[:channels] ** -exponent) @ vh[:channels]


def with_singular_values(values: Tensor, rows: int, columns: int) -> Tensor:
    left = torch.linalg.qr(torch.randn(rows, len(values), dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, len(values), dtype=torch.float64)).Q
    return left * values @ right.mT


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(40, 18), (18, 40), (25, 25)])
def test_it_is_the_formula_of_the_decomposition(shape: tuple[int, int], exponent: float):
    torch.manual_seed(0)
    inputs = torch.randn(shape, dtype=torch.float64).relu()
    found = svd_weight(inputs, 6, exponent)
    assert found.shape == (6, shape[1]) and found.dtype == torch.float64
    assert relative(found, published(inputs, 6, exponent)) < 1e-11


@pytest.mark.parametrize("shape", [(200, 60), (60, 200)])
@pytest.mark.parametrize("condition", [1e2, 1e4])
def test_it_is_nearer_to_the_truth_than_a_decomposition_in_float32(shape: tuple[int, int], condition: float):
    """Inputs are float32 numbers; the truth is their decomposition in float64."""
    torch.manual_seed(0)
    values = torch.logspace(0, -torch.tensor(condition).log10(), 60, dtype=torch.float64)
    inputs = with_singular_values(values, *shape).float()
    truth = published(inputs.double(), 60, 0.5)
    error = relative(svd_weight(inputs, 60, 0.5), truth)
    assert error < 1e-15 * condition**2
    assert error < 0.1 * relative(published(inputs, 60, 0.5).double(), truth)


@pytest.mark.parametrize("shape", [(50, 20), (20, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_that_the_inputs_do_not_have_get_no_weight(shape: tuple[int, int], dtype: torch.dtype):
    """Eight channels, five directions: what is left is the formula for the five, whatever rounding makes of the zeros."""
    torch.manual_seed(0)
    inputs = with_singular_values(torch.linspace(3, 1, 5, dtype=torch.float64), *shape).to(dtype)
    u, s, vh = torch.linalg.svd(inputs.double(), full_matrices=False)
    expected = u[:8, :5] @ torch.diag(s[:5] ** -0.5) @ vh[:5]
    assert relative(svd_weight(inputs, 8, 0.5), expected) < 1e-5


def test_inputs_of_another_scale():
    torch.manual_seed(0)
    inputs = torch.randn(30, 12, dtype=torch.float64)
    for scale in (1e-12, 1e12):
        torch.testing.assert_close(svd_weight(scale * inputs, 4, 0.5), scale**-0.5 * svd_weight(inputs, 4, 0.5))


def test_no_inputs_no_weight():
    assert not svd_weight(torch.zeros(9, 6), 3, 0.5).any()


def test_more_channels_than_inputs_are_refused():
    with pytest.raises(ValueError, match=r"^channels=6: must be at most 5 with inputs \(5, 8\)"):
        svd_weight(torch.randn(5, 8), 6, 1.0)
