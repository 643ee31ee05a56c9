"""Labels for the rows of a comparison, from the choices and numbers that differ between them."""

import functools
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

from spectral_repro.configuration.folders import find, is_group, read_yaml
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten
from spectral_repro.reporting.protocols import Values, hashable

TARGET = "_target_"
NAMED_BY_VALUE = ("dataset.name", "precision")  # shown in labels without their key
SYMBOLS = {"group_size": "d"}
AXIS_LABELS = {"group_size": "Group size d", "lr": "Learning rate", "eps": "ε", "width": "Width of the network"}
LOGARITHMIC_FROM = 8  # ratio of the largest to the smallest number
FEWEST_ON_AXIS = 3  # different numbers


def differing_keys(rows: Sequence[Values]) -> list[str]:
    """The keys whose value is not the same in all rows, or missing in some, in the order of a configuration."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if len({_value(row, key) for row in rows}) > 1]


def distinguishing(rows: Sequence[Values]) -> list[str]:
    """A short list of keys that distinguishes all rows. Choices of objects come before numbers and switches.

    A key that distinguishes no more rows than the ones before it, such as an option that only one choice has, is left out.
    """
    keys = sorted(differing_keys(rows), key=lambda key: (not _is_choice(key), key.startswith("dataset.load.")))
    chosen = []
    parts: list[tuple[object, ...]] = [()] * len(rows)
    for key in keys:
        finer = [(*part, _value(row, key)) for part, row in zip(parts, rows, strict=True)]
        if len(set(finer)) > len(set(parts)):
            chosen.append(key)
            parts = finer
    return chosen


def describing(row: Values, compared: Iterable[str]) -> list[str]:
    """The keys for the label of a row that is alone: the compared choices or, without any, the compared keys; if no key is
    compared, study, network and norm.
    """
    own = [key for key in compared if key in row]
    named = [f"{part}.{TARGET}" for part in ("study", "model", "norm")]
    return [key for key in own if _is_choice(key)] or own or [key for key in named if key in row]


def label(row: Values, keys: Iterable[str]) -> str:
    """The label of a row, such as "zca, pi, d = 16"."""
    keys = list(keys)
    texts = dict.fromkeys(_text(row, key, keys) for key in keys)
    return ", ".join(filter(None, texts)) or "default"


def axis_key(rows: Sequence[Values], keys: Iterable[str]) -> str | None:
    """The key with the most different numbers, at least three, for the horizontal axis; None if there is none."""
    numbers = {key: {row[key] for row in rows if _is_number(row.get(key))} for key in keys}
    mixed = [key for key in numbers if any(key in row and not _is_number(row[key]) for row in rows)]
    long = [key for key in numbers if len(numbers[key]) >= FEWEST_ON_AXIS and key not in mixed]
    return max(long, key=lambda key: len(numbers[key]), default=None)


def axis_label(key: str) -> str:
    name = key.rpartition(".")[2]
    return AXIS_LABELS.get(name, name.replace("_", " ").capitalize())


def words(key: str) -> str:
    """The name of a key in a title: norm for norm._target_, group size d for norm.group_size."""
    if _is_choice(key):
        return group(key)
    name = axis_label(key)
    return f"{name[0].lower()}{name[1:]}"


def is_logarithmic(numbers: Iterable[float]) -> bool:
    """Whether an axis with these numbers should be logarithmic."""
    ordered = sorted(set(numbers))
    if ordered[0] <= 0:
        return False
    ratios = {round(larger / smaller, 6) for smaller, larger in pairwise(ordered)}
    return ordered[-1] >= LOGARITHMIC_FROM * ordered[0] or len(ratios) == 1


def symbol(key: str, others: Iterable[str] = ()) -> str:
    """The name of a key in a label: its last part, or the whole key if another key has the same last part."""
    name = key.rpartition(".")[2]
    if any(other != key and other.rpartition(".")[2] == name for other in others):
        return key
    return SYMBOLS.get(name, name.replace("_", " "))


def choice(key: str, target: str) -> str:
    """The option of conf/ with this class or function under a key such as norm.backward._target_, or else the class's name."""
    *path, _ = key.split(".")
    for place in range(len(path) - 1, -1, -1):
        if is_group(path[place]):
            inner = ".".join([*path[place + 1 :], TARGET])
            return _options(path[place], inner).get(target, target.rpartition(".")[2])
    return target.rpartition(".")[2]


def chosen_options(values: Values) -> list[str]:
    """The options of conf/ that these values come from, such as norm=zca, in the order of their groups."""
    found = {key: choice(key, value) for key, value in values.items() if key.count(".") == 1 and key.endswith(f".{TARGET}")}
    named = {key.partition(".")[0]: option for key, option in found.items()} | {"dataset": values.get("dataset.name")}
    return [f"{group}={option}" for group, option in named.items() if is_group(group) and option in options(group)]


def group(key: str) -> str:
    """The group of conf/ that a key belongs to, such as backward for norm.backward._target_, or else its last part."""
    *path, last = key.split(".")
    groups = [part for part in path if is_group(part)]
    return groups[-1] if groups and last == TARGET else symbol(key)


@functools.cache
def _options(group: str, key: str) -> dict[str, str]:
    """The options of a group by their value under a key; of several options with the same value, the shortest name."""
    found: dict[str, str] = {}
    for option in sorted(options(group), key=len, reverse=True):
        content = read_yaml(find(group, option))
        target = flatten(content).get(key) if isinstance(content, dict) else None
        found |= {target: option} if target else {}
    return found


def _text(row: Values, key: str, keys: list[str]) -> str:
    if key not in row:
        top = key.partition(".")[0]
        return "" if any(other.partition(".")[0] == top for other in row) else f"no {top}"
    if key.endswith(TARGET):
        return choice(key, row[key])
    value = row[key]
    if _is_number(value):
        text = f"{value:g}" if float(f"{value:g}") == value else str(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return text if key in NAMED_BY_VALUE else f"{symbol(key, keys)} = {text}"


def _is_choice(key: str) -> bool:
    return key.endswith(TARGET) or key in NAMED_BY_VALUE


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(row: Values, key: str) -> object:
    return hashable(row[key]) if key in row else _MISSING


_MISSING = object()
