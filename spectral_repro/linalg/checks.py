"""Checks of arguments. Their errors are one line such as "iterations=0: must be a whole number >= 1"."""

from math import isfinite
from numbers import Integral, Real

import torch
from torch import Tensor


def is_count(value: object, least: int = 1) -> bool:
    """Whether the value is a whole number of Python or NumPy, at least ``least``, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raises ValueError unless the argument is a whole number of at least ``least``."""
    if not is_count(value, least):
        raise ValueError(f"{name}={value!r}: must be a whole number >= {least}")


def check_positive(name: str, value: object) -> None:
    """Raises ValueError unless the argument is a number > 0, which may be infinite."""
    if not (isinstance(value, Real) and float(value) > 0):
        raise ValueError(f"{name}={value!r}: must be a number > 0")


def check_finite(name: str, value: object) -> None:
    """Raises ValueError unless the argument is a finite number."""
    if not (isinstance(value, Real) and isfinite(value)):
        raise ValueError(f"{name}={value!r}: must be a finite number")


def check_choice(name: str, value: object, *allowed: object) -> None:
    """Raises ValueError unless the argument is one of the allowed values."""
    if value not in allowed:
        *others, last = map(str, allowed)
        raise ValueError(f"{name}={value!r}: must be {', '.join(others)} or {last}")


def check_floating(x: Tensor) -> None:
    """Raises ValueError unless the input holds floating-point numbers."""
    if not x.is_floating_point():
        raise ValueError(f"expected an input of floating-point numbers, got {x.dtype}")


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype without the module, such as "float32"."""
    return str(dtype).removeprefix("torch.")
