"""Parts of a training."""

from fractions import Fraction

Part = str | float | Fraction


def part(value: Part) -> Fraction:
    """The fraction that a config value such as 0.5, "1/2" or "100/350" stands for.

    Raises:
        ValueError: if it is not a number in [0, 1].
    """
    try:
        fraction = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        fraction = None
    if fraction is None or not 0 <= fraction <= 1:
        raise ValueError(f"{value} must be a part of the training: a number or a fraction such as 100/350 in [0, 1]")
    return fraction
