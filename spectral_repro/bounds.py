"""Annotations for arguments with bounds: a configuration is held against them before anything is built."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated

from annotated_types import Ge, Gt, Interval, Predicate

from spectral_repro.parts import part

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]


def each_once(values: Sequence[object]) -> bool:
    """with at least one value, and none twice"""
    return 0 < len(values) == len(set(values))


def _fraction(value: object) -> Fraction | None:
    try:
        return None if isinstance(value, bool) else part(value)
    except ValueError:
        return None


def is_part(value: object) -> bool:
    """a part of the training in [0, 1], a number or a fraction such as 100/350"""
    return _fraction(value) is not None


def is_positive_part(value: object) -> bool:
    """a part of the training in (0, 1], a number or a fraction such as 100/350"""
    return bool(_fraction(value))


Part = Annotated[str | float | Fraction, Predicate(is_part)]
PositivePart = Annotated[str | float | Fraction, Predicate(is_positive_part)]
