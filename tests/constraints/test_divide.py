"""Division of a whole network, exact and by power iteration that goes on."""

import pytest
import torch

from spectral_repro.constraints import DivideByExactLargest, DivideByLargest
from spectral_repro.constraints.operators import operators
from spectral_repro.linalg import conv_norm


def exact(operator):
    return conv_norm(operator.weight, **operator.circular).item()


def test_exact_division_reaches_the_bound_at_once(network, make):
    before = {each.name: (exact(each), each.weight.clone()) for each in operators(network, (3, 8, 6))}
    bound = sorted(before[name][0] for name in ("0", "3", "4"))[1]
    constraint = make(DivideByExactLargest, clip_to=bound, orthonormal_frames=True)
    constraint.apply(1)
    for operator in constraint.bounded:
        norm, weight = before[operator.name]
        torch.testing.assert_close(operator.weight, weight * min(1, bound / norm))


def test_weights_within_the_bound_keep_their_bits(network, make):
    before = [parameter.clone() for parameter in network.parameters()]
    make(DivideByExactLargest, clip_to=1e3, linear_to=1e3, batch_norm_to=1e3, orthonormal_frames=True).apply(1)
    make(DivideByLargest, clip_to=1e3, linear_to=1e3, batch_norm_to=1e3, orthonormal_frames=True).apply(1)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True))


def test_power_iteration_continues_over_calls_and_converges(network, make):
    constraint = make(DivideByLargest, clip_to=0.5, iterations=1)
    constraint.apply(1)
    first = max(exact(operator) for operator in constraint.bounded)
    for step in range(2, 150):
        constraint.apply(step)
    assert first > 0.6
    for operator in constraint.bounded:
        size = operator.random_input(torch.Generator()).shape
        jacobian = torch.autograd.functional.jacobian(operator.layer, torch.zeros(size))
        norm = torch.linalg.matrix_norm(jacobian.flatten(4).flatten(0, 3), 2).item()
        assert norm == pytest.approx(0.5, rel=0.02)


def test_the_state_of_clipping_is_saved(network, make):
    """Two constraints with one memory do the same to one network."""
    first, second = (make(DivideByLargest, clip_to=0.5) for _ in range(2))
    first.apply(1)
    state = {name: vector.clone() for name, vector in first.state_dict().items()}
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    first.apply(2)
    expected = [parameter.clone() for parameter in network.parameters()]
    network.load_state_dict(weights)
    second.load_state_dict(state)
    second.apply(2)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), expected, strict=True))
    fresh = make(DivideByLargest, clip_to=0.5)
    network.load_state_dict(weights)
    fresh.apply(2)
    assert not all(torch.equal(*pair) for pair in zip(network.parameters(), expected, strict=True))


def test_the_generator_of_the_training_is_left_alone(make):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    make(DivideByLargest, clip_to=0.5).apply(1)
    assert torch.rand(1) == expected
