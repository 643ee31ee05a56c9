"""A trained network and its data."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from spectral_repro.data.images import ImageData, Split
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_batches, build_model, load_images, place
from spectral_repro.training.checkpoint import UNREADABLE
from spectral_repro.training.environment import fastest_precision

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
        """Of the test images, in the precision of the training."""
        return self.predict(self.images.test, self.config.precision)

    @cached_property
    def exact_predictions(self) -> Predictions:
        """Of the test images, in float32."""
        return self.predictions if self.config.precision == "float32" else self.predict(self.images.test, "float32")

    def predict(self, split: Split, precision: str) -> Predictions:
        """Logits (N, classes) float32, of several views of an image their mean, and labels (N,), on the device."""
        batches = build_batches(self.config, split, self.device, train=False)
        autocast = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        with torch.no_grad(), autocast:
            parts = [(self.model(images).float(), labels) for images, labels in batches.epoch(0)]
        logits, labels = map(torch.cat, zip(*parts, strict=True))
        return logits.unflatten(0, (-1, batches.views)).mean(1), labels[:: batches.views]


def restore(
    checkpoint: Path, device: torch.device, batch_size: int | None = None, dataset: dict[str, object] | None = None
) -> Trained:
    """The network of a checkpoint that holds its weights under ``model`` and its configuration under ``config``.

    Args:
        batch_size: of the evaluation; None: that of the training.
        dataset: keys of the data set that take other values than in the training.

    Raises:
        UserError: for a file that is no such checkpoint, and data that cannot be read.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        config, weights = OmegaConf.create(content["config"]), content["model"]
    except FileNotFoundError as error:
        raise UserError(f"{checkpoint}: no such file") from error
    except UNREADABLE as error:
        raise UserError(f"{checkpoint}: cannot be read as a checkpoint with weights under model and their config") from error
    if config.precision == "auto":  # of a configuration that no run has settled
        config.precision = fastest_precision(device)
    for key, value in (dataset or {}).items():
        if key == "root" and "folder" in config.dataset.load:
            config.dataset.load.folder = value
        for node in (config.dataset, config.dataset.load):
            if key in node:
                node[key] = value
    model = build_model(config)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{checkpoint}: its weights are not those of the network that its config describes") from error
    images = load_images(config)
    config.dataset.batch_size = batch_size or config.dataset.batch_size
    return Trained(config, place(config, model.eval().requires_grad_(False), device), images, device)
