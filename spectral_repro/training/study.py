"""Runs a study, which measures random networks without training."""

from collections.abc import Callable
from itertools import count, islice

import torch
from omegaconf import DictConfig
from torch import Tensor

from spectral_repro.data.images import Split
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_batches
from spectral_repro.training.files import write_metrics
from spectral_repro.training.loggers import Loggers
from spectral_repro.training.run_folder import RunFolder


def image_batches(config: DictConfig, split: Split, device: torch.device) -> Tensor:
    """The first ``study.batches`` full training batches, of several epochs if needed: (batches, batch size, C, S, S).

    Raises:
        UserError: if there are fewer images than a batch has.
    """
    batches = build_batches(config, split, device, train=True)
    if batches.batch_size < 2:
        raise UserError("dataset.batch_size=1: a study compares the images of a batch; take at least 2")
    if len(split.labels) < batches.batch_size:
        raise UserError(f"dataset.batch_size={batches.batch_size}: must be at most the {len(split.labels)} training images")
    whole = (images for epoch in count() for images, _ in batches.epoch(epoch) if len(images) == batches.batch_size)
    return torch.stack(list(islice(whole, config.study.batches)))


def measure(
    config: DictConfig,
    run: RunFolder,
    study: Callable[..., list[dict[str, float]]],
    images: list[Tensor],
    device: torch.device,
    loggers: Loggers,
) -> None:
    """Calls the study with a generator of the run's seed and the images, and writes its rows to metrics.csv and the loggers."""
    loggers.open(run, config, 0)
    rows = study(torch.Generator(device).manual_seed(config.seed), *images)
    write_metrics(run.folder / "metrics.csv", rows)
    for index, *values in map(dict.items, rows):
        loggers.log({f"study/{name}": value for name, value in values}, int(index[1]))
    run.update(state="finished", final=rows[-1])
    means = [f"{name} {value:.4g}" for name, value in rows[-1].items() if not name.endswith("_std")]
    print(f"{run.folder}: {', '.join(means)}")
