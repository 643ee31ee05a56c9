"""The laws of the sphere, in float64 for vectors of any length, and at the ends of their range."""

import math

import pytest
import torch
from torch import Tensor

from spectral_repro.linalg.sphere import advance_, distance, exponential, length, project, transport, unit
from tests.tolerance import tolerance

LENGTHS = [0.0, 1e-300, 1e-12, 1e-4, 0.3, 1.5, 3.0, math.pi, 5.0]
ROUNDING = tolerance(torch.float64, terms=40, condition=max(LENGTHS))  # that of an angle grows with it


@pytest.fixture(params=[2, 3, 40])
def points(request) -> Tensor:
    torch.manual_seed(0)
    return unit(torch.randn(7, 5, request.param, dtype=torch.float64))


def tangents(points: Tensor, size: float = 1.0) -> Tensor:
    return size * unit(project(points, torch.randn_like(points)))


def near(found: Tensor, expected: Tensor | float) -> None:
    assert (found - expected).abs().max() <= ROUNDING


def inner(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("...i,...i->...", a, b)


def test_a_projection_is_tangent_and_stays(points):
    vector = torch.randn_like(points)
    tangent = project(points, vector)
    near(inner(points, tangent), 0.0)
    near(project(points, tangent), tangent)
    near(vector - tangent, inner(points, vector).unsqueeze(-1) * points)


@pytest.mark.parametrize("size", LENGTHS)
def test_the_exponential_map_goes_as_far_as_the_vector_is_long(points, size):
    v = tangents(points, size)
    there = exponential(points, v)
    near(length(there).squeeze(-1), 1.0)
    round_trip = size % (2 * math.pi)
    near(distance(points, there), min(round_trip, 2 * math.pi - round_trip))


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-4])
def test_small_distances_keep_their_digits(points, size):
    measured = distance(points, exponential(points, tangents(points, size)))
    assert (measured - size).abs().max() < tolerance(torch.float64)


def test_the_exponential_map_of_zero_is_the_identity(points):
    nowhere, v = torch.zeros_like(points), tangents(points)
    assert torch.equal(exponential(points, nowhere), points)
    assert torch.equal(transport(points, nowhere, v), v)
    assert torch.equal(unit(nowhere), nowhere)


@pytest.mark.parametrize("size", LENGTHS)
def test_transport_keeps_lengths_and_angles_and_tangency(points, size):
    v, a, b = tangents(points, size), tangents(points), tangents(points, 2.0)
    there = exponential(points, v)
    moved_a, moved_b = transport(points, v, a), transport(points, v, b)
    near(inner(moved_a, there), 0.0)
    near(inner(moved_a, moved_a), 1.0)
    near(inner(moved_a, moved_b), inner(a, b))


@pytest.mark.parametrize("size", LENGTHS[1:])
def test_the_way_back_leads_back(points, size):
    v, a = tangents(points, size), tangents(points)
    there, forwards = exponential(points, v), transport(points, v, v)
    near(exponential(there, -forwards), points)
    near(transport(there, -forwards, transport(points, v, a)), a)


def test_two_steps_along_a_great_circle_are_one(points):
    v = tangents(points, 0.7)
    half = exponential(points, v / 2)
    near(exponential(half, transport(points, v / 2, v / 2)), exponential(points, v))


@pytest.mark.parametrize("time", [1.0, 0.0, -2.5])
@pytest.mark.parametrize("size", LENGTHS)
def test_advancing_is_exponential_and_transport_in_place(points, size, time):
    v = tangents(points, size)
    y, moved = points.clone(), v.clone()
    advance_(y, moved, time)
    bound = 4 * size * torch.finfo(y.dtype).eps ** 0.5 if size * abs(time) == math.pi else ROUNDING  # half a turn
    assert (y - exponential(points, time * v)).abs().max() <= bound
    assert (moved - transport(points, time * v, v)).abs().max() <= bound
    near(length(y), 1.0)


def test_a_time_for_every_row(points):
    v, times = tangents(points, 0.4), torch.rand_like(points[..., :1])
    y, moved = points.clone(), v.clone()
    advance_(y, moved, times)
    near(y, exponential(points, times * v))


@pytest.mark.parametrize("function", [project, exponential])
def test_other_axes(function):
    y = torch.randn(4, 3, 2, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    v = torch.randn_like(y)
    found = function(unit(y, (1, 2, 3)), v, (1, 2, 3))
    near(found.flatten(1), function(unit(y.flatten(1)), v.flatten(1)))
    assert distance(y, v, (1, 2, 3)).shape == (4,)


def test_many_small_steps_in_float32_stay_on_the_sphere():
    """Without a normalisation, and although (cos(s) - 1) y is only 5e-8 y."""
    torch.manual_seed(0)
    y = unit(torch.randn(50, 200))
    v = 3e-4 * unit(project(y, torch.randn_like(y)))
    for _ in range(2000):
        advance_(y, v)
    assert (length(y) - 1).abs().max() < tolerance(torch.float32, terms=2000 // 200)  # roundings of 200 numbers average out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_a_turn_stays_on_the_sphere(dtype):
    """The tangent of half the angle has a pole there: the angle is off by up to 2 sqrt(eps), the length of y is not."""
    torch.manual_seed(0)
    angles = math.pi + torch.cat([torch.zeros(1), torch.logspace(-16, -1, 99)]).unsqueeze(-1).to(dtype)
    y = unit(torch.randn(100, 50, dtype=dtype))
    v = angles * unit(project(y, torch.randn_like(y)))
    start, velocity, half_digits = y.double().clone(), v.double().clone(), torch.finfo(dtype).eps ** 0.5
    for turns in (1, 2):
        advance_(y, v)
        assert (length(y) - 1).abs().max() < tolerance(dtype, terms=turns)
        assert (length(v) / angles - 1).abs().max() < turns * half_digits
        assert (y - exponential(start, turns * velocity)).abs().max() < 4 * turns * half_digits
