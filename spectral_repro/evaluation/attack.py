"""Accuracy under adversarial attack."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spectral_repro.bounds import Count, Positive
from spectral_repro.data.batches import Batches
from spectral_repro.data.images import Split, subset
from spectral_repro.errors import UserError
from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.trained import Trained

TARGETS = 9


class Normalised(nn.Module):
    """A network that takes images (N, C, H, W) in [0, 1] and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


@dataclass(frozen=True)
class AutoAttack(Measurement):
    """Accuracy in percent after AutoAttack (Croce and Hein, 2020) within an L2 ball of radius ``epsilon`` in [0, 1] pixels.

    The published package attacks the network in float32 with a fixed seed; its warnings are part of the result.

    Attributes:
        images: a fixed random choice of the test images.

    Raises:
        UserError: without the package.

    Example:
        >>> attack = AutoAttack(epsilon=0.5, images=1000, version="standard")
        >>> attack.settings  # python -m spectral_repro.evaluate metrics=autoattack
        {'epsilon': 0.5, 'images': 1000, 'version': 'standard'}
    """

    epsilon: Positive
    images: Count
    version: Literal["standard", "plus", "rand"]

    def __post_init__(self) -> None:
        try:
            import pyautoattack  # noqa: F401
        except ImportError as error:
            raise UserError(
                "metrics=autoattack: pyautoattack is not installed; pip install 'spectral-repro[robust]'"
            ) from error

    @property
    def packages(self) -> tuple[str, ...]:
        return ("pyautoattack",)

    def __call__(self, trained: Trained) -> dict[str, Any]:
        """
        Raises:
            UserError: for fewer than 4 classes, for which the attack has no loss.
        """
        if (classes := trained.config.dataset.num_classes) < 4:
            raise UserError(f"its targeted loss needs 4 classes or more, and this network has {classes}")
        dataset = trained.config.dataset
        network = Normalised(trained.model, list(dataset.mean), list(dataset.std)).to(trained.device).eval()
        pixels, labels = _pixels(subset(trained.images.test, self.images), dataset.batch_size, trained)
        with _warnings() as warnings:
            clean, robust, distance = attack(network, pixels, labels, self.epsilon, self.version, dataset.batch_size)
        return {
            "conditions": f"L2 {self.epsilon:g}, {self.version}, {len(labels):,} images",
            "images": len(labels),
            "clean_accuracy": 100 * clean.double().mean().item(),
            "robust_accuracy": 100 * robust.double().mean().item(),
            "largest_perturbation": distance.max().item(),
            "warnings": warnings,
        }


def attack(
    network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float, version: str, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Attacks images (N, C, H, W) in [0, 1]: correct before, correct after (N,) bool, and the norm (N,) of the perturbation.

    Network and images are converted to the contiguous memory format, the only one that the package supports.
    """
    from pyautoattack import AutoAttack as Ensemble

    network, pixels = network.to(memory_format=torch.contiguous_format), pixels.contiguous()
    ensemble = Ensemble(network, norm="L2", eps=epsilon, seed=0, version=version, device=pixels.device)
    with torch.no_grad():
        classes = torch.cat([network(batch) for batch in pixels.split(batch_size)])
    targets = min(TARGETS, classes.shape[1] - 1)
    ensemble.apgd_targeted.n_target_classes = ensemble.fab.n_target_classes = targets
    attacked, found = ensemble.run_standard_evaluation(pixels, labels, batch_size=batch_size)
    return classes.argmax(1) == labels, found == labels, (attacked - pixels).flatten(1).norm(dim=1)


def _pixels(split: Split, batch_size: int, trained: Trained) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels, on the device."""
    channels = trained.config.dataset.channels
    batches = Batches(split, batch_size, [0.0] * channels, [1.0] * channels, shuffle=False, device=trained.device)
    images, labels = map(torch.cat, zip(*batches.epoch(0), strict=True))
    return images, labels


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the warnings of the attack's checks."""
    logger, handler = logging.getLogger("auto-attack"), BufferingHandler(1000)
    found: list[str] = []
    disabled, propagate = logger.disabled, logger.propagate
    logger.addHandler(handler)
    logger.disabled = logger.propagate = False  # a configuration of logging disables the loggers that it does not name
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.disabled, logger.propagate = disabled, propagate
        found += dict.fromkeys(record.getMessage() for record in handler.buffer if record.levelno >= logging.WARNING)
