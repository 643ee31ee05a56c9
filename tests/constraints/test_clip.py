"""Clipping of a whole network, and its metrics."""

import math

import pytest
import torch

from spectral_repro.constraints import Clip
from spectral_repro.constraints.operators import operators
from spectral_repro.linalg import clip_conv, conv_norm
from tests.tolerance import assert_near, tolerance


def test_every_layer_is_clipped_at_its_own_size(network, make):
    constraint = make(Clip, clip_to=1.0, linear_to=0.5)
    expected, norms = {}, {}
    for layer in constraint.absorbing:
        layer.absorb()
    for operator in constraint.bounded:
        bound = 0.5 if operator.name == "7" else 1.0
        norms[operator.name] = conv_norm(operator.weight, **operator.circular).item() / bound
        expected[operator.name] = clip_conv(operator.weight.clone(), clip_to=bound, **operator.circular)
    constraint.apply(1)
    assert list(expected) == ["0", "3", "4", "5.core", "7"]
    for operator in constraint.bounded:
        clipped = expected[operator.name]
        assert_near(operator.weight, clipped, terms=clipped.numel(), condition=norms[operator.name])


def test_clipping_reports_the_excess_after_cropping(network, make):
    constraint = make(Clip, clip_to=1.0, linear_to=0.5)
    assert math.isnan(constraint.metrics()["clip_remaining"])
    constraint.apply(1)
    left = {each.name: conv_norm(each.weight, **each.circular).item() for each in operators(network, (3, 8, 6))}
    found = max(left["0"], left["3"], left["4"], left["5.core"], 2 * left["7"])
    assert constraint.metrics() == {"clip_remaining": pytest.approx(found, rel=tolerance(torch.float32, terms=1000))}
    assert 1.05 < found < 1.6


def test_rounds_leave_less_and_nothing_above_says_one(make):
    thorough = make(Clip, clip_to=1.0, rounds=200, tolerance=0.01)
    thorough.apply(1)
    assert 1 <= thorough.metrics()["clip_remaining"] <= 1.0101
    thorough.apply(2)
    assert thorough.metrics() == {"clip_remaining": pytest.approx(1, abs=0.0101)}
    wide = make(Clip, clip_to=100.0)
    wide.apply(1)
    assert wide.metrics() == {"clip_remaining": 1.0}


def test_the_state_of_clipping_is_saved(make):
    first, second = (make(Clip, clip_to=1.0) for _ in range(2))
    first.apply(1)
    second.load_state_dict(first.state_dict())
    assert second.metrics() == first.metrics()
