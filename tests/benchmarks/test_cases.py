"""Measured errors in cases where they are known."""

from dataclasses import replace

import pytest
import torch

from spectral_repro.benchmarks.cases import Case
from spectral_repro.benchmarks.pi_whole import WholePowerIteration
from spectral_repro.benchmarks.problems import draw
from spectral_repro.benchmarks.spectra import NAMED, Spectrum
from spectral_repro.benchmarks.tasks import TASKS
from spectral_repro.linalg.backward import Exact, Lyapunov, NewtonSchulz, PlainSVD, Taylor

CPU = torch.device("cpu")


def of(spectrum: str, function: str, dtype: str = "float64", size: int = 16) -> Case:
    return Case(draw(NAMED[spectrum], size, 4, seed=0), function, dtype, CPU)


@pytest.mark.parametrize("function", TASKS)
@pytest.mark.parametrize(("dtype", "rounding"), [("float64", 1e-13), ("float32", 1e-4)])
@pytest.mark.parametrize("spectrum", ["separated", "clustered", "tied"])
def test_exact_is_exact_up_to_rounding(function: str, dtype: str, rounding: float, spectrum: str):
    measured = of(spectrum, function, dtype).accuracy(Exact())
    assert measured["error"] <= measured["error_max"] < rounding
    assert measured["forward_error"] < rounding and measured["feature_error"] < rounding
    assert measured["angle_deg"] < 60 * rounding and measured["non_finite"] == 0


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99])
def test_error_of_taylor_is_a_power_of_the_ratio(ratio: float):
    """For two eigenvalues its kernel is 1 - r^101 times the exact one."""
    problem = draw(Spectrum(lambda size: torch.tensor([1.0, ratio], dtype=torch.float64), rotated=False), 2, 1, seed=0)
    problem = replace(problem, grad_output=torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64))
    measured = Case(problem, "sqrt", "float64", CPU).accuracy(Taylor())
    assert measured["error"] == pytest.approx(ratio**101, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("function", TASKS)
def test_pi_whole_passes_no_gradient(function: str):
    measured = of("separated", function).accuracy(WholePowerIteration())
    assert measured["gain_max"] < 1e-12 and measured["error"] == pytest.approx(1)
    assert measured["forward_error"] < 1e-13


def test_plain_gradient_at_a_tie_is_not_finite():
    assert of("tied", "whitening").accuracy(PlainSVD())["non_finite"] == 1
    assert of("separated", "whitening").accuracy(PlainSVD())["non_finite"] == 0


def test_gain_of_whitening():
    """For G = I, dL/dA = f'(A)."""
    problem = draw(NAMED["separated"], 8, 2, seed=0)
    case = Case(replace(problem, grad_output=torch.eye(8, dtype=torch.float64).expand(2, 8, 8)), "whitening", "float64", CPU)
    slopes = 0.5 * (problem.eigenvalues + 1e-4) ** -1.5
    assert case.accuracy(Exact())["gain_max"] == pytest.approx((slopes.norm() / 8**0.5).item())


@pytest.mark.parametrize("method", [NewtonSchulz(), Lyapunov()])
def test_methods_of_roots_refuse_the_projector(method):
    assert "square root" in of("separated", "pca").refusal(method)
    assert of("separated", "sqrt").refusal(method) is None
