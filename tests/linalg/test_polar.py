"""The Newton-Schulz iteration of Muon against the polynomial of every singular value, and against the polar factor."""

import pytest
import torch
from torch import Tensor

from spectral_repro.linalg.polar import JORDAN, newton_schulz_polar
from tests.tolerance import assert_near

TAYLOR = (15 / 8, -10 / 8, 3 / 8)


def by_svd(matrix: Tensor, steps: int, coefficients: tuple[float, float, float]) -> Tensor:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.square().sum(-1, keepdim=True).sqrt()
    for _ in range(steps):
        values = sum(c * values**power for c, power in zip(coefficients, (1, 3, 5), strict=True))
    return (left * values.unsqueeze(-2)) @ right


@pytest.mark.parametrize("coefficients", [JORDAN, TAYLOR])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(5, 5), (2, 3, 7), (2, 2, 7, 3), (4, 1, 6)])
def test_every_singular_value_follows_the_polynomial(shape, dtype, coefficients):
    matrix = torch.randn(shape, dtype=dtype)
    found = newton_schulz_polar(matrix, 5, coefficients)
    assert found.shape == matrix.shape and found.dtype == dtype
    torch.testing.assert_close(found, by_svd(matrix, 5, coefficients))
    torch.testing.assert_close(newton_schulz_polar(1e3 * matrix, 5, coefficients), found)


@pytest.mark.parametrize("scale", [2.0**100, 2.0**-100])
def test_matrices_whose_squares_overflow_or_underflow(scale: float):
    matrix = torch.randn(2, 4, 6)
    assert torch.equal(newton_schulz_polar(scale * matrix), newton_schulz_polar(matrix))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_the_coefficients_of_taylor_it_converges_to_the_polar_factor(dtype):
    matrix = torch.randn(3, 6, 4, dtype=dtype)
    found = newton_schulz_polar(matrix, 30, TAYLOR)
    condition = torch.linalg.cond(matrix).max().item()
    assert_near(found, torch.linalg.polar(matrix)[0], terms=30 * 6, condition=condition)


def test_where_jordans_coefficients_bring_singular_values():
    values = torch.linspace(0.002, 0.999, 400, dtype=torch.float64)
    rest = (1 - values.square()).sqrt()
    found = newton_schulz_polar(torch.stack([values, rest], -1).diag_embed(), 5)[:, 0, 0]
    assert found.min() > 0.68 and found.max() < 1.21 and found.max() - found.min() > 0.4


def test_zero_stays_zero_and_autocast_changes_nothing():
    matrix = torch.stack([torch.zeros(4, 6), torch.randn(4, 6)])
    found = newton_schulz_polar(matrix)
    assert (found[0] == 0).all() and found.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(newton_schulz_polar(matrix), found)
