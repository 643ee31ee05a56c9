"""Rules for single values of a configuration."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from spectral_repro.errors import UserError


@dataclass(frozen=True)
class Rule:
    allowed: str
    holds: Callable[[Any], bool]

    def check(self, key: str, value: object) -> None:
        """
        Raises:
            UserError: for a value that breaks the rule, with the allowed values.
        """
        if not self.holds(value):
            raise UserError(f"{key}={'null' if value is None else value}: must be {self.allowed}")

    def or_null(self) -> "Rule":
        return Rule(f"{self.allowed}, or null", lambda value: value is None or self.holds(value))


def bounded(
    rule: Rule, gt: float | None = None, ge: float | None = None, lt: float | None = None, le: float | None = None
) -> Rule:
    """The rule for a number within bounds; None and infinity mean no bound."""
    signs = ((">", operator.gt, gt), (">=", operator.ge, ge), ("<", operator.lt, lt), ("<=", operator.le, le))
    known = [(sign, compare, bound) for sign, compare, bound in signs if bound is not None and abs(bound) < float("inf")]
    words = " and ".join(f"{sign} {bound:.15g}" for sign, _, bound in known)
    return Rule(
        f"{rule.allowed} {words}".strip(),
        lambda value: rule.holds(value) and all(compare(value, bound) for _, compare, bound in known),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def whole(least: int | None = None, below: float | None = None) -> Rule:
    is_whole = Rule("a whole number", lambda value: _is_number(value) and isinstance(value, int))
    return bounded(is_whole, ge=least, lt=below)


def number(
    above: float | None = None, least: float | None = None, below: float | None = None, most: float | None = None
) -> Rule:
    return bounded(Rule("a number", _is_number), gt=above, ge=least, lt=below, le=most)


def any_of(*rules: Rule) -> Rule:
    words = list(dict.fromkeys(rule.allowed for rule in rules))
    return Rule(", or ".join(words), lambda value: any(rule.holds(value) for rule in rules))


def one_of(*options: object) -> Rule:
    *others, last = map(str, options)
    return Rule(f"{', '.join(others)} or {last}" if others else last, lambda value: value in options)


def list_of(rule: Rule, length: int | None = None) -> Rule:
    def holds(value: object) -> bool:
        return isinstance(value, list) and all(map(rule.holds, value)) and length in (None, len(value))

    return Rule(f"a list{f' of {length}' if length else ''}, each {rule.allowed}", holds)


def _is_device(value: object) -> bool:
    if value in ("auto", "cpu"):
        return True
    name, _, index = str(value).partition(":")
    if name != "cuda" or not (index or "0").isdigit():
        return False
    import torch

    return int(index or 0) < torch.cuda.device_count()


SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a string", lambda value: isinstance(value, str) and value != "")
THREADS = whole(1, below=1025)  # more than any machine has; asking for a million ends the process
WORKERS = whole(0, below=1025)
DEVICE = Rule("auto, cpu, or a CUDA device that this machine has (cuda, cuda:0, ...)", _is_device)
