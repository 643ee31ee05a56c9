"""A trained network and its data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from spectral_repro.configuration.identity import flatten, pin_images, within
from spectral_repro.configuration.rules import OF_THE_DATA_SET, RULES
from spectral_repro.data.images import ImageData, Split
from spectral_repro.data.transforms import EvaluationTransforms
from spectral_repro.errors import UserError, first_line
from spectral_repro.evaluation.subjects import Weights, find
from spectral_repro.linalg.checks import check_choice
from spectral_repro.training.build import build_batches, build_model, load_images, place
from spectral_repro.training.checkpoint import differences, read_checkpoint, renamed, shortly
from spectral_repro.training.environment import fastest_precision
from spectral_repro.training.step import hybrids

NEEDED = ("model._target_", "dataset", "trainer", "precision", "seed")  # to build the network and its batches
GROUPS = ("dataset", "trainer")
READ = ("dataset", "precision", "seed", "trainer.channels_last")
Predictions = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Trained:
    """A network for evaluation, the configuration it was trained with, and its data."""

    config: DictConfig
    model: nn.Module
    images: ImageData
    device: torch.device

    @cached_property
    def predictions(self) -> Predictions:
        """Predictions for the test images, in the precision of the training."""
        return self.predict(self.images.test, self.config.precision)

    @cached_property
    def exact_predictions(self) -> Predictions:
        """Predictions for the test images, in float32."""
        return self.predictions if self.config.precision == "float32" else self.predict(self.images.test, "float32")

    def predict(self, split: Split, precision: str) -> Predictions:
        """Logits (N, classes) float32, averaged over the views of an image, and labels (N,), on the device."""
        batches = build_batches(self.config, split, self.device, train=False)
        autocast = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        with torch.no_grad(), autocast:
            parts = [(self.model(images).float(), labels) for images, labels in batches.epoch(0)]
        logits, labels = map(torch.cat, zip(*parts, strict=True))
        return logits.unflatten(0, (-1, batches.views)).mean(1), labels[:: batches.views]


class TrainedNetwork(NamedTuple):
    """A network in evaluation mode, the transforms from an image to its input, and the names of its classes by number.

    Args:
        network: in evaluation mode.
        transforms: turn an image into its input.
        class_names: by number.

    Example:
        >>> TrainedNetwork._fields
        ('network', 'transforms', 'class_names')
    """

    network: nn.Module
    transforms: EvaluationTransforms
    class_names: tuple[str, ...]


def load_trained(
    run: str | Path,
    checkpoint: Literal["last", "best"] = "last",
    device: torch.device | str = "cpu",
    weights: Weights = "model",
) -> TrainedNetwork:
    """A trained network for use in Python. Its data set is not read.

    Args:
        run: the folder of a finished run, or a checkpoint file that holds weights under ``model`` and their configuration under
            ``config``.
        checkpoint: of a run, that of its last or of its best epoch.
        device: of the network.
        weights: "model", those after the last step of the checkpoint, or "ema", their average over the steps of a training with
            ``trainer.ema_decay``.

    Returns:
        The network in evaluation mode, in float32; its transforms, from a PIL image or a uint8 tensor to its input; the names
        of its classes, which are numbers where the data set has no names. It can be unpacked into the three.

    Raises:
        UserError: in one line, for a folder that holds no finished run, a file that is no checkpoint, and one without an
            average.

    Example:
        >>> network, transforms, class_names = load_trained("results/runs/RUN")  # doctest: +SKIP
        >>> with torch.no_grad():
        ...     logits = network(transforms(Image.open("cat.jpg"))[None])  # doctest: +SKIP
        >>> class_names[logits.argmax()]  # doctest: +SKIP
        'cat'
    """
    path = find(Path(run).expanduser(), checkpoint).checkpoint
    config, network, names = _read(path, weights)
    with _errors_of_config(path):
        dataset = config.dataset
        values: Any = OmegaConf.to_object(dataset)
        resize, views = values.get("resize"), dataset.get("views", "plain")
        mean, std = tuple(dataset.mean), tuple(dataset.std)
        transforms = EvaluationTransforms(dataset.channels, dataset.image_size, resize, mean, std, views)
        class_names = (*names[: dataset.num_classes], *map(str, range(len(names), dataset.num_classes)))
        return TrainedNetwork(place(config, network, torch.device(device)), transforms, class_names)


def restore(
    checkpoint: Path,
    device: torch.device,
    batch_size: int | None = None,
    dataset: dict[str, Any] | None = None,
    weights: Weights = "model",
) -> Trained:
    """The network of a checkpoint that holds its weights under ``model`` and its configuration under ``config``, with its data.

    Args:
        batch_size: of the evaluation; None: that of the training.
        dataset: keys of the data set with other values than in the training.
        weights: as for `load_trained`.

    Raises:
        UserError: for a file that is no such checkpoint, and data that cannot be read or have other classes.
    """
    config, network, names = _read(checkpoint, weights)
    if config.precision == "auto":  # in a configuration that is not of a run
        config.precision = fastest_precision(device)
    with _errors_of_config(checkpoint):
        if config.dataset.get("content") and "root" not in (dataset or {}):  # its split into training and test may be another
            pin_images(config.dataset, "name a folder of test images with dataset.root")
        for key, value in (dataset or {}).items():
            if key == "root" and "folder" in config.dataset.load:
                config.dataset.load.folder = value
            for node in (config.dataset, config.dataset.load):
                if key in node:
                    node[key] = value
        images = load_images(config)
    if names and images.class_names and list(images.class_names) != names:
        raise UserError(
            f"{checkpoint}: was trained on the classes {shortly(names)}, but the images are of {shortly(images.class_names)}"
        )
    config.dataset.batch_size = batch_size or config.dataset.batch_size
    return Trained(config, place(config, network.requires_grad_(False), device), images, device)


def _read(checkpoint: Path, weights: Weights) -> tuple[DictConfig, nn.Module, list[str]]:
    """The configuration, the network in evaluation mode and the class names of a checkpoint; no names if it has none."""
    content = read_checkpoint(checkpoint)
    found, names = content.get("config"), content.get("class_names", [])
    config = OmegaConf.create(found if isinstance(found, dict) else {})
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{checkpoint}: class_names must be a list of strings")
    with _errors_of_config(checkpoint):
        nodes = {key: OmegaConf.select(config, key) for key in NEEDED}
        if absent := [
            key for key, node in nodes.items() if node is None or (key in GROUPS and not isinstance(node, DictConfig))
        ]:
            raise UserError(f"{checkpoint}: has no {absent[0]} under config, the configuration of its training")
        _check(checkpoint, flatten(config))
    try:
        with _errors_of_config(checkpoint):
            network = build_model(config)
    except UserError as error:
        raise UserError(f"{checkpoint}: the network of its config cannot be built ({error})") from error
    check_choice("weights", weights, "model", "ema")
    if weights not in content:
        raise UserError(f"{checkpoint}: has no average of the weights, which trainer.ema_decay makes; take weights=model")
    values = renamed(network, content[weights])
    try:
        network.load_state_dict(values)
    except RuntimeError as error:
        fault = f"its weights are not those of the network that its config describes ({differences(network, values)})"
        raise UserError(f"{checkpoint}: {fault}") from error
    progress = content.get("progress")  # only a checkpoint of a training has it
    for hybrid in hybrids(network):
        hybrid.advance(progress if isinstance(progress, float) else 1.0)
    return config, network.eval(), names


def _check(checkpoint: Path, values: dict[str, object]) -> None:
    """Checks the values of a configuration that an evaluation reads, except those of the network."""
    try:
        for key, value in values.items():
            if within(key, READ) and key in RULES:
                RULES[key].check(key, value)
    except UserError as error:
        raise UserError(f"{checkpoint}: under config, {error}") from None
    for key, source in OF_THE_DATA_SET.items():
        if values.get(key) != values.get(source) and key in values:
            raise UserError(f"{checkpoint}: under config, {key}={values[key]}: must be {source}={values.get(source)}")


@contextmanager
def _errors_of_config(checkpoint: Path) -> Iterator[None]:
    """Adds the name of the file to errors about the configuration in a checkpoint, such as a missing key."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{checkpoint}: its config cannot be read ({first_line(error)})") from None
