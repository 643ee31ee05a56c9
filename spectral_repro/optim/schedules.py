"""Learning-rate schedules: factors of the learning rate as functions of the completed fraction of the training.

A fraction is a number in [0, 1] or a string such as "100/350", so a schedule works for a training of any length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from spectral_repro.bounds import Part, PositivePart, Share, training_fraction
from spectral_repro.linalg.checks import check_count

Schedule = Callable[[Fraction], float]


def _check_part(name: str, value: Part, positive: bool = False) -> None:
    try:
        fraction = training_fraction(value)
    except ValueError as error:
        raise ValueError(f"{name}={error}") from None
    if positive and fraction == 0:
        raise ValueError(f"{name}={value}: must be > 0")


def _check_factor(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name}={value}: must be >= 0")


@dataclass(frozen=True)
class Constant:
    """A constant learning rate.

    Example:
        >>> schedule = Constant()
        >>> [schedule(Fraction(progress)) for progress in (0, 0.5, 1)]
        [1.0, 1.0, 1.0]
    """

    def __call__(self, progress: Fraction) -> float:
        return 1.0


@dataclass(frozen=True)
class Step:
    """factor^n after n periods of ``every``.

    Args:
        every: length of a period, a part of the training: a number in [0, 1], or a fraction such as "100/350".
        factor: of the learning rate after each period.

    Raises:
        ValueError: for an ``every`` outside (0, 1], or a negative ``factor``.

    Example:
        >>> schedule = Step(every=0.5, factor=0.1)
        >>> [schedule(Fraction(progress)) for progress in (0, 0.25, 0.5)]
        [1.0, 1.0, 0.1]
    """

    every: PositivePart
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check_part("every", self.every, positive=True)
        _check_factor("factor", self.factor)

    def __call__(self, progress: Fraction) -> float:
        return self.factor ** (progress // training_fraction(self.every))


@dataclass(frozen=True)
class MultiStep:
    """factor^n after n of the ``milestones``.

    Args:
        milestones: parts of the training, numbers in [0, 1] or fractions.
        factor: of the learning rate at each milestone.

    Raises:
        ValueError: for a milestone outside [0, 1], or a negative ``factor``.

    Example:
        >>> schedule = MultiStep([0.5, 0.75], factor=0.5)
        >>> [schedule(Fraction(progress)) for progress in (0, 0.5, 0.75)]
        [1.0, 0.5, 0.25]
    """

    milestones: Sequence[Part]
    factor: float = 0.1

    def __post_init__(self) -> None:
        for milestone in self.milestones:
            _check_part("milestones", milestone)
        _check_factor("factor", self.factor)

    def __call__(self, progress: Fraction) -> float:
        return self.factor ** sum(progress >= training_fraction(milestone) for milestone in self.milestones)


@dataclass(frozen=True)
class Cosine:
    """A linear rise from 0 during ``warmup``, then half a cosine from 1 to ``final``.

    Args:
        warmup: length of the rise, a part of the training: a number in [0, 1], or a fraction such as "100/350".
        final: multiplier at the end.

    Raises:
        ValueError: for a ``warmup`` outside [0, 1], or a negative ``final``.

    Example:
        >>> schedule = Cosine(warmup=0.5)
        >>> [schedule(Fraction(progress)) for progress in (0, 0.25, 0.5, 1)]
        [0.0, 0.5, 1.0, 0.0]
    """

    warmup: Part = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_part("warmup", self.warmup)
        _check_factor("final", self.final)

    def __call__(self, progress: Fraction) -> float:
        warmup = training_fraction(self.warmup)
        if progress < warmup:
            return float(progress / warmup)
        falling = float((progress - warmup) / (1 - warmup)) if warmup < 1 else 1.0
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * falling)) / 2


@dataclass(frozen=True)
class Triangular:
    """A linear rise from ``start`` to 1 until ``peak``, then a linear fall to ``final``.

    Args:
        start: multiplier at the start.
        peak: where the multiplier is 1, a part of the training: a number in [0, 1], or a fraction such as "100/350".
        final: multiplier at the end.

    Raises:
        ValueError: for a ``peak`` outside [0, 1], or a negative ``start`` or ``final``.

    Example:
        >>> schedule = Triangular(start=0.5, peak=0.5, final=0)
        >>> [schedule(Fraction(progress)) for progress in (0, 0.5, 0.75)]
        [0.5, 1.0, 0.5]
    """

    start: float = 0.2
    peak: Part = 0.23
    final: float = 0.07

    def __post_init__(self) -> None:
        _check_factor("start", self.start)
        _check_part("peak", self.peak)
        _check_factor("final", self.final)

    def __call__(self, progress: Fraction) -> float:
        peak = training_fraction(self.peak)
        if progress < peak:
            return self.start + (1 - self.start) * float(progress / peak)
        fallen = float((progress - peak) / (1 - peak)) if peak < 1 else 0.0
        return 1 + (self.final - 1) * fallen


@dataclass(frozen=True)
class Cyclic:
    """``cycles`` triangles: a linear rise from ``lowest`` to 1 until ``peak`` of the cycle, then a linear fall back.

    Args:
        cycles: how many.
        peak: where the multiplier is 1, a part of a cycle.
        lowest: multiplier at both ends of a cycle.

    Raises:
        ValueError: for fewer than one cycle, a ``peak`` outside [0, 1], or a negative ``lowest``.

    Example:
        >>> schedule = Cyclic(cycles=2, peak=0.5)
        >>> [schedule(Fraction(progress)) for progress in (0, 0.25, 0.5, 0.75)]
        [0.0, 1.0, 0.0, 1.0]
    """

    cycles: int = 1
    peak: PositivePart = "2/5"
    lowest: Share = 0.0

    def __post_init__(self) -> None:
        check_count("cycles", self.cycles)
        _check_part("peak", self.peak)
        _check_factor("lowest", self.lowest)

    def __call__(self, progress: Fraction) -> float:
        position, peak = progress * self.cycles, training_fraction(self.peak)
        position = position % 1 if progress < 1 else Fraction(1)
        height = position / peak if position < peak else (1 - position) / (1 - peak) if peak < 1 else 1
        return self.lowest + (1 - self.lowest) * float(height)
