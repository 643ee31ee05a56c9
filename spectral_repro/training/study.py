"""A study in the place of a training."""

from collections.abc import Callable
from itertools import count, islice

import torch
from omegaconf import DictConfig
from torch import Tensor

from spectral_repro.data.images import Split
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_batches
from spectral_repro.training.loggers import Loggers
from spectral_repro.training.metrics import write_metrics
from spectral_repro.training.run import Run


def image_batches(config: DictConfig, split: Split, device: torch.device) -> Tensor:
    """The first ``study.batches`` whole training batches, of as many epochs as it takes: (batches, batch size, C, S, S).

    Raises:
        UserError: if there are fewer images than a batch has.
    """
    batches = build_batches(config, split, device, train=True)
    if len(split.labels) < batches.batch_size:
        raise UserError(f"dataset.batch_size={batches.batch_size}: must be at most the {len(split.labels)} training images")
    whole = (images for epoch in count() for images, _ in batches.epoch(epoch) if len(images) == batches.batch_size)
    return torch.stack(list(islice(whole, config.study.batches)))


class Measurement:
    """A study's rows, from nothing but the seed and the images it is given; metrics.csv and loggers get them all at once."""

    def __init__(
        self, config: DictConfig, run: Run, study: Callable[..., list[dict[str, float]]], images: list[Tensor],
        device: torch.device, loggers: Loggers,
    ):  # fmt: skip
        self.config, self.run, self.study, self.images, self.loggers = config, run, study, images, loggers
        self.generator = torch.Generator(device).manual_seed(config.seed)

    def measure(self) -> None:
        self.loggers.open(self.run, self.config, 0)
        rows = self.study(self.generator, *self.images)
        write_metrics(self.run.folder / "metrics.csv", rows)
        for index, *values in map(dict.items, rows):
            self.loggers.log({f"study/{name}": value for name, value in values}, index[1])
        self.run.update(state="finished", final=rows[-1])
        means = [f"{name} {value:.4g}" for name, value in rows[-1].items() if not name.endswith("_std")]
        print(f"{self.run.folder}: {', '.join(means)}")
