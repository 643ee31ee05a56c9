import pytest
import torch

from spectral_repro.benchmarks.accuracy import angle, relative_error


def test_relative_error_and_angle():
    exact = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    measured = torch.tensor([[[3.0, 0.0], [0.0, 9.0]], [[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    assert relative_error(measured, exact).tolist() == pytest.approx([1, 1])
    assert angle(measured, exact)[1].item() == pytest.approx(45)


@pytest.mark.parametrize("degrees", [1e-12, 1e-3, 90, 180])
def test_small_and_large_angles(degrees: float):
    turn = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    exact = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    measured = torch.zeros(1, 2, 2, dtype=torch.float64)
    measured[0, 0] = 5 * torch.stack([turn.cos(), turn.sin()])
    assert angle(measured, exact).item() == pytest.approx(degrees, rel=1e-6)
