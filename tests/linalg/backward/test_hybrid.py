"""One method first, another one later."""

import pytest
import torch

from spectral_repro.layers import PCADenoising
from spectral_repro.linalg import sqrtm
from spectral_repro.linalg.backward import Exact, Hybrid, NewtonSchulz, PowerIteration, UnrolledPowerIteration
from spectral_repro.linalg.functions import Sqrt


@pytest.mark.parametrize("spectrum", ["close"], indirect=True)
def test_the_second_method_takes_over_at_the_switch(spectrum, symmetric, random_gradient, matrix_gradient):
    methods, matrix, gradient = (NewtonSchulz(3), PowerIteration(3)), symmetric(spectrum), random_gradient(5)
    grad_first, grad_second = (matrix_gradient(matrix, Sqrt(), method, gradient) for method in methods)
    assert not grad_first.equal(grad_second)
    hybrid = Hybrid(*methods, switch=0.3)
    assert matrix_gradient(matrix, Sqrt(), hybrid, gradient).equal(grad_first)
    for done, expected in ((0.0, grad_first), (0.29, grad_first), (0.3, grad_second), (1.0, grad_second), (0.1, grad_first)):
        hybrid.advance(done)
        assert matrix_gradient(matrix, Sqrt(), hybrid, gradient).equal(expected)


def test_a_switch_at_0_starts_with_the_second_method():
    first, second = NewtonSchulz(3), PowerIteration(3)
    assert Hybrid(first, second, switch=0).current is second
    assert Hybrid(first, second).current is first


@pytest.mark.parametrize("order", [1, -1])
def test_a_hybrid_supports_what_both_methods_support(order):
    hybrid = Hybrid(*[Exact(), NewtonSchulz()][::order])
    assert hybrid.decomposes
    assert not Hybrid(*[Exact(), UnrolledPowerIteration()][::order]).decomposes
    with pytest.raises(ValueError, match=r"^NewtonSchulz has a gradient of the square root"):
        PCADenoising(16, backward=hybrid)


@pytest.mark.parametrize("switch", [-0.1, 1.1, float("nan")])
def test_a_wrong_switch_is_named(switch):
    with pytest.raises(ValueError, match=rf"^switch={switch}: must be in \[0, 1\]$"):
        Hybrid(Exact(), PowerIteration(), switch)


def test_a_hybrid_of_hybrids_uses_three_methods_in_turn():
    first, second, third = NewtonSchulz(3), PowerIteration(9), Exact()
    hybrid = Hybrid(Hybrid(first, second, switch=0.2), third, switch=0.6)
    found = []
    for done in (0.0, 0.3, 0.8):
        hybrid.advance(done)
        found.append(hybrid.current)
        assert torch.allclose(sqrtm(4 * torch.eye(3), hybrid), 2 * torch.eye(3))
    assert found == [first, second, third]
