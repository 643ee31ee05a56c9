"""The protocol of a run: all values that determine its result, except the seed and those that a table compares."""

import functools
import json
from typing import Any

from spectral_repro.configuration.folders import find, read_yaml
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten, within

Values = dict[str, Any]

COUNTED = {
    "dataset.train_images": "training image",
    "dataset.validation_images": "validation image",
    "dataset.test_images": "test image",
    "trainer.epochs": "epoch",
}
VALIDATION = ("dataset.validation_images", "dataset.validation_fraction")
IN_WORDS = (*COUNTED, "model.width", "precision")
IMPLIED = ("model._target_", "dataset.name", "dataset.load")  # by other words or keys
OF_A_DATA_SET = (
    *(f"dataset.{key}" for key in ("num_classes", "channels", "image_size", "mean", "std")),
    *(f"dataset.{key}" for key in ("crop_padding", "crop_fill", "resize", "crop", "flip", "views")),
    "model.num_classes",
    "model.in_channels",
)


# may differ within the full protocol
EXECUTION = ("precision", "trainer.compile", "trainer.channels_last", "trainer.autotune", "trainer.matmul_precision")
# null in a configuration; a run on a folder of images fills them in
FILLED_IN = ("dataset.content", "dataset.num_classes", "dataset.load.num_classes", "model.num_classes")
RUNS_OWN = ("seed", "init.content")  # may differ between runs of a row


def split(identity: Values, compare: tuple[str, ...]) -> tuple[Values, Values]:
    """The values that a table compares, and the protocol."""
    compared = {key: value for key, value in identity.items() if within(key, compare)}
    return compared, {key: value for key, value in identity.items() if key not in compared and key not in RUNS_OWN}


def differing(protocol: Values, reference: Values) -> list[str]:
    """The keys with different values, or that only one of the two has."""
    return sorted(
        key
        for key in protocol.keys() | reference.keys()
        if key not in protocol or key not in reference or protocol[key] != reference[key]
    )


def may_differ(key: str, full: Values) -> bool:
    """Whether runs with the full protocol may have another value."""
    return within(key, EXECUTION) or _is_open(key, full)


def _is_open(key: str, protocol: Values) -> bool:
    return key in FILLED_IN and protocol.get(key) is None


def is_reduced(protocol: Values, full: Values) -> bool:
    """Whether it differs from the full protocol only in keys that a scale may change, such as epochs, images or width."""
    return all(key in _scaled_keys() for key in differing(protocol, full))


@functools.cache
def _scaled_keys() -> frozenset[str]:
    """The keys set by the files of conf/scale, the same keys of the data set's loader, and the size of the validation split."""
    keys = {key for name in options("scale") for key in flatten(read_yaml(find("scale", name)))}
    return frozenset(keys | {*VALIDATION} | {key.replace("dataset.", "dataset.load.", 1) for key in keys})


def hashable(value: object) -> object:
    """A hashable copy of a value; equal values have equal copies."""
    if isinstance(value, dict):
        return frozenset((key, hashable(each)) for key, each in value.items())
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def describe(protocol: Values, reference: Values, scales: set[str], sizes: Values) -> list[str]:
    """A protocol in words.

    Args:
        protocol: to describe.
        reference: the full protocol.
        scales: names of the scales of its runs.
        sizes: the actual numbers of images, under the keys of `COUNTED`.
    """
    keys = differing(protocol, reference)
    reduced = not all(may_differ(key, reference) for key in keys)
    scale = [f"scale {name}" for name in sorted(scales - {"paper"})] if reduced else ["full scale"]
    known = protocol | sizes
    counts = [counted(known[key], noun) for key, noun in COUNTED.items() if known.get(key) is not None]
    trained = any(within(key, ("model", "trainer")) for key in protocol)
    network = [protocol.get("model._target_", "").rpartition(".")[2]] if trained else ["random networks"]
    width = [f"width {protocol['model.width']}"] if "model.width" in protocol else []
    skipped = IN_WORDS + IMPLIED + (OF_A_DATA_SET if "dataset.name" in keys else ())
    others = [_word(key, protocol, reference) for key in keys if not within(key, skipped) and not _is_open(key, reference)]
    words = [*network, protocol.get("dataset.name"), *scale, *counts, *width, protocol.get("precision"), *others]
    return [word for word in words if word]


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _word(key: str, protocol: Values, reference: Values) -> str | None:
    target = f"{key.partition('.')[0]}._target_"
    if key not in protocol:
        return f"without {key}" if protocol.get(target) == reference.get(target) else None
    value = protocol[key] if isinstance(protocol[key], str) else json.dumps(protocol[key])
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={value.rpartition('.')[2]}"
    return f"{key}={value}"
