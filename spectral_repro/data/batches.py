"""Batches of a data set that lies on the training device, augmented as whole batches."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from spectral_repro.data.images import Split


class Batches:
    """Shuffled, cropped, mirrored and normalised batches of a split.

    Each image is padded with black by ``crop_padding`` on every side, cropped to its own size at a random place, mirrored with
    probability 1/2 and normalised to (x / 255 - mean) / std (He et al., 2016, section 4.2). The images stay on the device as
    one uint8 tensor, and all random choices of an epoch are made on the CPU at its start: they depend on (seed, epoch) alone,
    and making batches never waits for the device.

    Args:
        split: images (N, C, S, S) uint8 and labels (N,) int64.
        batch_size: images in a batch; the last batch may be smaller.
        mean, std: one value per channel, for images in [0, 1].
        seed: of all random choices, >= 0.
        crop_padding: width of the black frame, in pixels; 0: no crop.
        flip: mirror left and right at random.
        shuffle: a new order in every epoch; False: the order of the split.
        device: where images and batches lie.
        channels_last: memory format of the batches; False: contiguous.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        seed: int = 0,
        crop_padding: int = 0,
        flip: bool = False,
        shuffle: bool = True,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ):
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.crop_padding, self.flip, self.shuffle = crop_padding, flip, shuffle
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.channels, self.size = split.images.shape[1:3]
        self.padded_size = self.size + 2 * crop_padding
        self.labels = split.labels.to(device)

        images = split.images.to(device).permute(0, 2, 3, 1)
        frame = (crop_padding,) * 4
        self.pixels = pad(images, (0, 0, *frame)).reshape(-1, self.channels)

        row = torch.arange(self.size, device=device)[:, None] * self.padded_size
        column = torch.arange(self.size, device=device)
        self.window = torch.stack([row + column, row + column.flip(0)]).flatten(1)  # of a crop: pixels as they are, mirrored

        mean, std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.scale = (1 / (255 * std)).repeat(self.size)  # for a whole row of pixels
        self.shift = (-mean / std).repeat(self.size)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.labels) / self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, S, S) float32 and labels (B,) int64 of every batch of an epoch, from batch ``start`` on."""
        order, corner, mirrored = (choice.to(self.device) for choice in self._choices(epoch))
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            batch = slice(first, first + self.batch_size)
            pixels = corner[batch, None] + self.window[mirrored[batch]]
            yield self._images(pixels), self.labels[order[batch]]

    def _choices(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """For every place in the epoch: image, first pixel of its crop, whether it is mirrored (0 or 1), all (N,) int64."""
        entropy = np.random.SeedSequence((self.seed, epoch)).generate_state(1)
        generator = torch.Generator().manual_seed(int(entropy[0]))
        count = len(self.labels)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        top, left = torch.randint(2 * self.crop_padding + 1, (2, count), generator=generator)
        mirrored = torch.randint(1 + self.flip, (count,), generator=generator)
        return order, (order * self.padded_size + top) * self.padded_size + left, mirrored

    def _images(self, pixels: Tensor) -> Tensor:
        """Normalised images of the pixels with these numbers (B, S * S)."""
        rows = self.pixels.index_select(0, pixels.flatten()).view(-1, self.size * self.channels)
        images = torch.addcmul(self.shift, rows, self.scale).view(-1, self.size, self.size, self.channels)
        return images.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)
