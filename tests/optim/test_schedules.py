"""Schedules at the fractions that papers name, for trainings of any length."""

import math
from fractions import Fraction

import pytest

from spectral_repro.bounds import training_fraction
from spectral_repro.optim.schedules import Constant, Cosine, Cyclic, MultiStep, Step, Triangular


@pytest.mark.parametrize("epochs", [350, 10, 7])
def test_step_at_every_epoch_of_wang2019(epochs: int):
    schedule = Step(every="100/350", factor=0.1)
    for epoch in range(epochs):
        drops = epoch * 350 // (100 * epochs)
        assert schedule(Fraction(epoch, epochs)) == pytest.approx(0.1**drops)


def test_multistep_drops_at_its_milestones():
    schedule = MultiStep(milestones=["60/200", "120/200", "160/200"], factor=0.2)
    rates = [schedule(Fraction(epoch, 200)) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])


def test_cosine_with_warmup():
    schedule = Cosine(warmup=0.1, final=0.2)
    assert [schedule(Fraction(k, 20)) for k in (0, 1, 2)] == pytest.approx([0, 0.5, 1])
    assert schedule(Fraction(11, 20)) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 2)) / 2)
    assert schedule(Fraction(1)) == pytest.approx(0.2)


def test_cyclic_is_made_of_triangles():
    schedule = Cyclic(cycles=2, peak="2/5", lowest=0.1)
    assert [schedule(Fraction(k, 20)) for k in (0, 2, 4, 7, 10, 14, 20)] == pytest.approx([0.1, 0.55, 1, 0.55, 0.1, 1, 0.1])


def test_triangular():
    schedule = Triangular(start=0.2, peak=0.25, final=0.04)
    parts = (0, Fraction(1, 8), Fraction(1, 4), Fraction(5, 8), 1)
    assert [schedule(Fraction(part)) for part in parts] == pytest.approx([0.2, 0.6, 1, 0.52, 0.04])
    assert [Triangular(peak=peak, start=0.5, final=0)(Fraction(1, 2)) for peak in (0, 1)] == pytest.approx([0.5, 0.75])
    assert Triangular(peak=1)(Fraction(1)) == 1


def test_cyclic_that_only_rises():
    assert [Cyclic(peak=1)(Fraction(k, 4)) for k in range(5)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_constant():
    assert {Constant()(Fraction(k, 9)) for k in range(10)} == {1.0}


@pytest.mark.parametrize(("value", "fraction"), [("100/350", Fraction(2, 7)), (0.1, Fraction(1, 10)), (1, 1), ("0.25", 0.25)])
def test_parts_are_exact(value, fraction):
    assert training_fraction(value) == fraction


@pytest.mark.parametrize("value", ["x", "1/0", "3/2", -0.1, None])
def test_values_that_are_no_fractions_are_refused(value):
    with pytest.raises(ValueError, match="part of the training"):
        training_fraction(value)


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (Step, {"every": 0}, r"^every=0: must be > 0$"),
        (Step, {"every": "x"}, r"^every=x: must be a part of the training"),
        (Step, {"every": 0.5, "factor": -1}, r"^factor=-1: must be >= 0$"),
        (MultiStep, {"milestones": [0.5, 1.5]}, r"^milestones=1\.5: must be a part of the training"),
        (Cosine, {"warmup": -0.1}, r"^warmup=-0\.1: must be a part of the training"),
        (Cosine, {"final": -0.1}, r"^final=-0\.1: must be >= 0$"),
        (Triangular, {"start": -1}, r"^start=-1: must be >= 0$"),
        (Triangular, {"peak": 1.5}, r"^peak=1\.5: must be a part of the training"),
        (Triangular, {"final": -1}, r"^final=-1: must be >= 0$"),
        (Cyclic, {"cycles": 0}, r"^cycles=0: must be a whole number >= 1$"),
        (Cyclic, {"peak": 2}, r"^peak=2: must be a part of the training"),
        (Cyclic, {"lowest": float("nan")}, r"^lowest=nan: must be >= 0$"),
    ],
)
def test_schedules_refuse_when_they_are_made(schedule, options, message):
    with pytest.raises(ValueError, match=message):
        schedule(**options)
