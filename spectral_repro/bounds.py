"""Annotations of arguments with bounds, by which a configuration is checked before anything is built."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Predicate

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]  # the range of NumPy's seeds
BelowOne = Annotated[float, Interval(ge=0, lt=1)]


def each_once(values: Sequence[object]) -> bool:
    """with at least one value, and none twice"""
    return 0 < len(values) == len(set(values))


def training_fraction(value: str | float | Fraction) -> Fraction:
    """The fraction of a training from a value such as 0.5, "1/2" or "100/350".

    Raises:
        ValueError: if it is not a number in [0, 1].
    """
    try:
        fraction = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        fraction = None
    if fraction is None or not 0 <= fraction <= 1:
        raise ValueError(f"{value}: must be a part of the training: a number or a fraction such as 100/350 in [0, 1]")
    return fraction


def _fraction(value: Any) -> Fraction | None:
    try:
        return None if isinstance(value, bool) else training_fraction(value)
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
