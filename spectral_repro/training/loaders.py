"""Training data of other kinds: tensors and PyTorch's data loaders."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from spectral_repro.data.batches import seeded_generator
from spectral_repro.layers.replicas import replicas


class EpochBatches(Protocol):
    """The interface of training data: `Batches` or `LoaderBatches`. Every image appears ``views`` times in a row.

    Example:
        >>> batches = Batches(digits().train, batch_size=64, mean=[0.3], std=[0.4])
        >>> batches.views, batches.length(0), len(list(batches.epoch(0)))
        (1, 64, 23)
    """

    views: int

    def __len__(self) -> int:
        """Batches in an epoch."""

    def length(self, index: int) -> int:
        """Images in a batch, over all processes."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of every batch of an epoch, from batch ``start`` on; the same for the same epoch."""


Data = EpochBatches | DataLoader | tuple[Tensor, Tensor]


def as_batches(data: Data, device: torch.device, seed: int, batch_size: int, shuffle: bool) -> EpochBatches:
    """Turns data into batches for a training.

    Args:
        data: batches, a data loader, or inputs (N, ...) and labels (N,).
        device: where the batches of a loader and of tensors go.
        seed, batch_size, shuffle: for tensors; the seed also for the random numbers of a loader.

    Raises:
        TypeError: for data of another kind, and a loader without a length.
        ValueError: for tensors that are not a pair of one length, and data without a batch.
    """
    if isinstance(data, tuple):
        data = DataLoader(_pairs(data), batch_size, shuffle=shuffle)
    batches: EpochBatches = LoaderBatches(data, device, seed) if isinstance(data, DataLoader) else data  # type: ignore[assignment]
    if not hasattr(batches, "epoch"):
        raise TypeError(f"expected a pair of tensors, a DataLoader or Batches, got {type(data).__name__}")
    try:
        length = len(batches)
    except TypeError as error:
        raise TypeError(f"the number of batches must be known: give the dataset of the loader a length ({error})") from error
    if length == 0:
        raise ValueError("the data make no batch: they are empty, or fewer than a batch where the last one is left out")
    return batches


def _pairs(data: tuple[Tensor, Tensor]) -> TensorDataset:
    if not all(isinstance(each, Tensor) for each in data):
        raise TypeError(f"expected a pair of tensors, got {', '.join(type(each).__name__ for each in data)}")
    lengths = [len(each) for each in data]
    if len(data) != 2 or lengths[0] != lengths[1] or lengths[0] == 0:
        raise ValueError(f"expected inputs and labels of one length, at least one of each, got tensors of {lengths}")
    return TensorDataset(*data)


class LoaderBatches:
    """The batches of a data loader, each a pair of inputs and labels, on a device. Other batches raise a TypeError.

    The loader's random numbers from torch's generator depend only on the seed and the epoch, so a resumed training sees the
    same batches. With ``persistent_workers=True`` this does not hold for numbers drawn in the workers.

    Raises:
        ValueError: in one of several processes, which would all see the same images.
    """

    views = 1

    def __init__(self, loader: DataLoader, device: torch.device, seed: int):
        if replicas() > 1:
            raise ValueError(
                "a DataLoader works in one process only; for several, pass spectral_repro.data.Batches(..., share=(rank, n))"
            )
        self.loader, self.device, self.seed = loader, device, seed

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        generator = seeded_generator(self.seed, epoch)
        if self.loader.generator is not None:
            self.loader.generator.set_state(generator.get_state())
        with drawing_from(generator):
            batches = iter(self.loader)
        index = 0
        while True:
            with drawing_from(generator):
                batch = next(batches, None)
            if batch is None:
                return
            if index >= start:
                inputs, labels = _inputs_and_labels(batch)
                yield inputs.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            index += 1


def _inputs_and_labels(batch: object) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, tuple | list):
        raise TypeError(f"expected batches (inputs, labels) from the data loader, got {type(batch).__name__}")
    if len(batch) != 2 or not all(isinstance(each, Tensor) for each in batch):
        parts = ", ".join(type(each).__name__ for each in batch)
        raise TypeError(
            f"expected batches (inputs, labels) of two tensors from the data loader, got {len(batch)} parts: {parts}"
        )
    return batch[0], batch[1]


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside the block torch's default CPU generator continues this generator."""
    with torch.random.fork_rng(devices=()):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())
