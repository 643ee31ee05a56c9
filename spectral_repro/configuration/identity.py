"""What tells one run from another: the resolved configuration without what cannot change the result."""

import functools
import hashlib
import json
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf

NEUTRAL = (
    "backward",  # counts where a layer takes it in
    "dataset.download",
    "dataset.epochs",  # counts where trainer.epochs follows it
    "dataset.load.download",
    "dataset.load.memory_limit_gib",
    "dataset.load.root",
    "dataset.load.workers",
    "dataset.memory_limit_gib",
    "dataset.root",
    "dataset.workers",
    "device",
    "force",
    "gap",
    "logger",
    "paper",
    "results_dir",
    "scale",
    "spectra",
    "trainer.checkpoint_every",
    "trainer.log_every",
    "trainer.threads",
)

AS_BEFORE = {  # younger keys, and the values that mean what was done before there were such keys
    "norm.shrinkage": 0,
    "norm.running": "matrix",
    "trainer.recalibrate_batches": 0,
}

READ_BY_A_STUDY = ("study", "seed", "device", "results_dir", "force", "scale", "logger", "paper")


def essentials(config: DictConfig) -> DictConfig:
    """What a run reads of its configuration: all of it; but a study no network, no training, and no images without batches."""
    return OmegaConf.masked_copy(config, _read(config)) if "study" in config else config


def _read(config: Mapping[str, object]) -> list[str]:
    if "study" not in config:
        return list(config)
    return [*READ_BY_A_STUDY, *["dataset"] * ("batches" in config["study"])]


def flatten(config: DictConfig | dict[str, object]) -> dict[str, object]:
    """The resolved values by dotted key, of a configuration or of the plain values of one; lists stay whole."""

    def walk(node: object, prefix: str) -> dict[str, object]:
        if not isinstance(node, dict):
            return {prefix: node}
        return {key: leaf for name, child in node.items() for key, leaf in walk(child, f"{prefix}.{name}".lstrip(".")).items()}

    return walk(config if isinstance(config, dict) else OmegaConf.to_container(config, resolve=True), "")


def within(key: str, parents: tuple[str, ...]) -> bool:
    return f"{key}.".startswith(_prefixes(parents))


@functools.cache
def _prefixes(parents: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{parent}." for parent in parents)


def identity(config: DictConfig | dict[str, object]) -> dict[str, object]:
    """The values that decide the result, by dotted key, of a configuration or of the plain values of one."""
    values = {key: config[key] for key in _read(config) if key in config} if isinstance(config, dict) else essentials(config)
    values = {key: value for key, value in flatten(values).items() if not within(key, NEUTRAL)}
    return {key: value for key, value in values.items() if key not in AS_BEFORE or value != AS_BEFORE[key]}


def digest(values: dict[str, object]) -> str:
    """8 hexadecimal digits of the values, in whatever order they come."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
