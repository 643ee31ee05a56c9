"""The identity of a run: its resolved configuration without values that cannot change the result."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spectral_repro.errors import UserError

IGNORED_BY_ID = (
    "backward",  # counts where a layer uses it
    "dataset.download",
    "dataset.epochs",  # counts through trainer.epochs
    "dataset.load.download",
    "dataset.load.folder",  # counts by its content
    "dataset.load.memory_limit_gib",
    "dataset.load.root",
    "dataset.load.workers",
    "dataset.memory_limit_gib",
    "dataset.root",
    "dataset.workers",
    "device",
    "force",
    "output_gap",
    "init.checkpoint",  # counts by its content
    "logger",
    "optimizer.fused",
    "paper",
    "results_dir",
    "scale",
    "spectra",
    "study.init.checkpoint",
    "trainer.checkpoint_every",
    "trainer.cudnn_benchmark",
    "trainer.evaluate_every",
    "trainer.extend",
    "trainer.log_every",
    "trainer.threads",
)

AS_BEFORE = {  # newer keys, with the values that mean the behaviour before they existed; an identity does not contain these
    "dataset.content": None,
    "dataset.drop_last": False,
    "dataset.test_fraction": 0.2,
    "dataset.load.test_fraction": 0.2,
    "dataset.split_seed": 0,
    "dataset.load.split_seed": 0,
    "dataset.validation_images": None,
    "dataset.validation_fraction": None,
    "init.unit": "norm",
    "init.others.unit": "norm",
    "study.init.unit": "norm",
    "model.last_stride": 2,
    "norm.shrinkage": 0,
    "norm.running": "matrix",
    "trainer.recalibrate_batches": 0,
    "trainer.autotune": False,
    "trainer.matmul_precision": "highest",
    "trainer.accumulate": 1,
    "trainer.ema_decay": None,
    "trainer.mixup": 0,
    "trainer.cutmix": 0,
    "dataset.views": "plain",
}

READ_BY_A_STUDY = ("study", "seed", "device", "results_dir", "force", "scale", "logger", "paper")


def config_read(config: DictConfig) -> DictConfig:
    """The part of its configuration that a run reads: all of it, or for a study no network, no training, and images only for
    batches.
    """
    return OmegaConf.masked_copy(config, _read(config)) if "study" in config else config


def _read(config: Mapping[str, Any]) -> list[str]:
    if "study" not in config:
        return list(config)
    return [*READ_BY_A_STUDY, *["dataset"] * ("batches" in config["study"])]


def flatten(config: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The resolved values of a configuration, or of its plain values, by dotted key; lists are not flattened."""

    def walk(node: object, prefix: str) -> dict[str, Any]:
        if not isinstance(node, dict):
            return {prefix: node}
        return {key: leaf for name, child in node.items() for key, leaf in walk(child, f"{prefix}.{name}".lstrip(".")).items()}

    return walk(config if isinstance(config, dict) else OmegaConf.to_container(config, resolve=True), "")


def within(key: str, parents: tuple[str, ...]) -> bool:
    return f"{key}.".startswith(_prefixes(parents))


@functools.cache
def _prefixes(parents: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{parent}." for parent in parents)


def identity(config: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The values of a configuration, or of its plain values, that determine the result, by dotted key."""
    values = {key: config[key] for key in _read(config) if key in config} if isinstance(config, dict) else config_read(config)
    values = {key: value for key, value in flatten(values).items() if not within(key, IGNORED_BY_ID)}
    return without_as_before(values)


def without_as_before(values: dict[str, Any]) -> dict[str, Any]:
    """The values without those of `AS_BEFORE`."""
    return {key: value for key, value in values.items() if key not in AS_BEFORE or value != AS_BEFORE[key]}


def digest(values: dict[str, Any]) -> str:
    """8 hexadecimal digits of a hash of the values without those of `AS_BEFORE`, independent of order; 0 and 0.0 are equal."""
    return hashlib.sha256(json.dumps(_plain(without_as_before(values)), sort_keys=True).encode()).hexdigest()[:8]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(_plain, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def pinned(config: DictConfig) -> DictConfig:
    """The configuration with absolute paths, with hashes of the initial weights and of a folder of images, and with the number
    of its classes.

    Raises:
        UserError: if classes cannot be counted, or a folder cannot be read or does not have the given content.
    """
    config = config.copy()
    for key in ("dataset.root", "init.checkpoint", "study.init.checkpoint"):
        if isinstance(path := OmegaConf.select(config, key), str):
            OmegaConf.update(config, key, str(Path(path).expanduser().resolve()))
    for key in ("init", "study.init"):
        node = OmegaConf.select(config, key)
        if node and node.get("checkpoint") and "content" in node and node.content is None:
            node.content = file_digest(Path(node.checkpoint))
    if "dataset" in _read(config):
        pin_images(config.dataset, "leave the key out to use its present content")
    return config


def pin_images(dataset: DictConfig, otherwise: str) -> None:
    """Sets the number of classes and the hash of a folder of images.

    Raises:
        UserError: if classes cannot be counted, or the folder has another content than is given; ``otherwise`` says what to do
            instead of restoring it.
    """
    if "folder" in dataset.load and ("content" in dataset or dataset.num_classes is None):
        from spectral_repro.data.image_folder import classes_and_content

        classes, content = classes_and_content(dataset.load.folder)
        if dataset.get("content") not in (None, content):
            raise UserError(
                f"dataset.content={dataset.content}: {dataset.load.folder} now has the content {content}; restore its files, "
                f"or {otherwise}"
            )
        if dataset.num_classes is None:
            dataset.num_classes = classes
        if "content" in dataset:
            dataset.content = content
    elif dataset.num_classes is None:
        raise UserError("dataset.num_classes=null: give the number of classes; only dataset=image_folder counts them")


def file_digest(path: Path) -> str | None:
    """16 hexadecimal digits of a file's content; None for one that cannot be read, and for a pipe or a device."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return None
