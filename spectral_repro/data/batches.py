"""Batches of a data set on the training device, augmented as whole batches."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from spectral_repro.data.images import Split, check_split
from spectral_repro.linalg.checks import check_count

VIEWS = {"plain": 1, "mirrored": 2, "ten_crop": 10}
OF_ALL_EPOCHS = (0, 0, 1)  # in the place of an epoch's number: 2**64, which no epoch has


class Batches:
    """Shuffled, cropped, mirrored and normalised batches of a split.

    Each image is padded by ``crop_padding`` pixels on every side, cropped to its own size at a random place, mirrored with
    probability 1/2 and normalised to (x / 255 - mean) / std (He et al., 2016, section 4.2). All random choices of an epoch are
    made on the CPU at its start and depend only on (seed, epoch). Images in memory stay on the device as one uint8 tensor, and
    making batches does not synchronise with the device. Images in files are decoded and copied batch by batch, with the same
    result. The cut of a file (`ImageFiles`) gets a random number that also depends on (seed, epoch).

    With several views, every image appears several times in a row, alternately plain and mirrored: "mirrored" twice, "ten_crop"
    ten times, at each of the five places of `corner_or_centre`. A batch then holds as many whole images as fit.

    Args:
        split: images (N, C, S, S) uint8 and labels (N,) int64.
        batch_size: images, or views of them, in a batch; the last batch may be smaller.
        mean, std: one value per channel, for images in [0, 1].
        seed: of all random choices, >= 0.
        crop_padding: width of the padding in pixels; 0: no crop.
        crop_fill: content of the padding: "black", or the image mirrored at its edge, without ("reflect") or with ("symmetric")
            a second copy of the outermost pixels.
        flip: mirror left and right: False; True, with probability 1/2; or "alternating", with probability 1/2 in epoch 0 and
            then in every second epoch, so that any two epochs in a row show both sides of an image (Jordan 2024).
        shuffle: a new order in every epoch; False: the order of the split.
        drop_last: leave out the last batch of an epoch if it is smaller than the others.
        views: of every image, "plain", "mirrored" or "ten_crop"; the last two for evaluation, without crop and flip.
        device: where images and batches lie.
        channels_last: memory format of the batches; False: contiguous.
        share: (r, n) for process r of n, which gets the images from r B // n to (r + 1) B // n of every batch of B images.
            Together they make the batches of a single process, without duplicates; a share without images is left out.

    Raises:
        TypeError, ValueError: for images and labels that `Split` does not describe.
        ValueError: for ten crops of images in memory, which are already cut, a batch size below 1, and another number of means
            or standard deviations than channels, or one <= 0.

    Example:
        >>> batches = Batches(digits().train, batch_size=64, mean=[0.3], std=[0.4], seed=0)
        >>> images, labels = next(batches.epoch(0))
        >>> images.shape, len(batches)
        (torch.Size([64, 1, 8, 8]), 23)
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
        crop_fill: Literal["black", "reflect", "symmetric"] = "black",
        flip: bool | Literal["alternating"] = False,
        shuffle: bool = True,
        drop_last: bool = False,
        views: Literal["plain", "mirrored", "ten_crop"] = "plain",
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        share: tuple[int, int] = (0, 1),
    ):
        if views == "ten_crop" and isinstance(split.images, Tensor):
            raise ValueError("views=ten_crop: images in memory are already cut")
        _check(split, batch_size, mean, std)
        self.views, self.seed, self.device, self.share = VIEWS[views], seed, device, share
        self.batch_size = max(batch_size // self.views, 1) * self.views
        self.crop_padding, self.crop_fill, self.flip, self.shuffle = crop_padding, crop_fill, flip, shuffle
        self.drop_last = drop_last
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.channels, self.size = split.images.shape[1:3]
        self.padded_size = self.size + 2 * crop_padding
        self.labels = split.labels.to(device)
        self.reader = None if isinstance(split.images, Tensor) else split.images.reader(torch.device(device).type == "cuda")
        self.pixels = self._pixels(split.images) if isinstance(split.images, Tensor) else None

        self.mirrored_first = torch.randint(2, (len(self.labels),), generator=seeded_generator(seed, *OF_ALL_EPOCHS))
        row = torch.arange(self.size, device=device)[:, None] * self.padded_size
        column = torch.arange(self.size, device=device)
        self.window = torch.stack([row + column, row + column.flip(0)]).flatten(1)  # of a crop: plain, mirrored

        means, stds = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.scale = (1 / (255 * stds)).repeat(self.size)  # for a whole row of pixels
        self.shift = (-means / stds).repeat(self.size)

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.labels) * self.views, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def images(self) -> int:
        """Images, or views of them, in an epoch."""
        return min(len(self) * self.batch_size, len(self.labels) * self.views)

    def length(self, index: int) -> int:
        """Images, or views of them, in a batch of an epoch, over all processes."""
        return min(self.batch_size, len(self.labels) * self.views - index * self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, S, S) float32 and labels (B,) int64 of every batch of an epoch, from batch ``start`` on."""
        batches = [batch for index in range(start, len(self)) if (batch := self._places(index))]
        if not batches:
            return
        own, sizes = torch.cat([torch.arange(batch.start, batch.stop) for batch in batches]), list(map(len, batches))
        *placing, cut = self._choices(epoch)
        order, top, left, mirrored = (choice[own] for choice in placing)
        place, tables = self._tables(order, None if cut is None else cut[own], sizes)
        corner = (place * self.padded_size + top) * self.padded_size + left
        choices = (choice.to(self.device).split(sizes) for choice in (order, corner, mirrored))
        for table, order, corner, mirrored in zip(tables, *choices, strict=False):
            yield self._images(table, corner[:, None] + self.window[mirrored]), self.labels[order]

    def first(self, number: int) -> Tensor:
        """The first ``number`` images of the batches of epoch 0; all of them if there are fewer."""
        enough = islice(self.epoch(0), math.ceil(number / self.batch_size))
        return torch.cat([images for images, _ in enough])[:number]

    def as_pictures(self, images: Tensor) -> Tensor:
        """Undoes the normalisation: images (B, C, S, S) in [0, 1] on the CPU, small ones magnified to about 64 pixels."""
        shape = (-1, self.size, self.size, self.channels)
        rows = (images.permute(0, 2, 3, 1).reshape(-1, len(self.scale)) - self.shift) / (255 * self.scale)
        pictures = rows.view(shape).permute(0, 3, 1, 2).clamp(0, 1).cpu()
        factor = max(64 // self.size, 1)
        return pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)

    def _choices(self, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """For every place in the epoch: image, top and left of its crop, whether it is mirrored (0 or 1), and for images in
        files the random number of its cut; all (N * views,) int64.
        """
        generator, count = seeded_generator(self.seed, epoch), len(self.labels)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        top, left = torch.randint(2 * self.crop_padding + 1, (2, count), generator=generator)
        mirrored = torch.randint(1 + (self.flip is True), (count,), generator=generator)
        cut = torch.randint(2**63 - 1, (count,), generator=generator) if self.reader else None
        if self.flip == "alternating":
            mirrored = (self.mirrored_first[order] + epoch) % 2
        if self.views > 1:
            order, top, left = (choice.repeat_interleave(self.views) for choice in (order, top, left))
            view = torch.arange(self.views).repeat(count)
            mirrored, cut = view % 2, view // 2
        return order, top, left, mirrored, cut

    def _places(self, index: int) -> range:
        """The places in the epoch of this process's share of a batch."""
        first, images = index * self.batch_size, self.length(index) // self.views
        return range(*(first + images * part // self.share[1] * self.views for part in (self.share[0], self.share[0] + 1)))

    def _tables(self, order: Tensor, cut: Tensor | None, sizes: list[int]) -> tuple[Tensor, Iterable[Tensor]]:
        """The row of each image in the table of pixels of its batch, and these tables; ``sizes`` are those of the batches."""
        if self.reader is None or cut is None:
            assert self.pixels is not None
            return order, repeat(self.pixels)
        step = min(self.views, 2)  # an image and its mirror are decoded once
        numbers, choices = (values[::step].split([size // step for size in sizes]) for values in (order, cut))
        images = self.reader.stream(numbers, choices)
        return torch.cat([torch.arange(size) // step for size in sizes]), map(self._pixels, images)

    def _pixels(self, images: Tensor) -> Tensor:
        """The pixels (n, C) of padded images (N, C, S, S), image by image and row by row, on the device."""
        images = images.to(self.device, non_blocking=True).permute(0, 2, 3, 1)
        if self.crop_fill == "black":
            framed = pad(images, (0, 0, *(self.crop_padding,) * 4))
        else:
            places = torch.from_numpy(np.pad(np.arange(self.size), self.crop_padding, self.crop_fill)).to(self.device)
            framed = images.index_select(1, places).index_select(2, places)
        return framed.reshape(-1, self.channels)

    def _images(self, table: Tensor, pixels: Tensor) -> Tensor:
        """Normalised images of the pixels with these numbers (B, S * S) in the table."""
        rows = table.index_select(0, pixels.flatten()).view(-1, self.size * self.channels)
        images = torch.addcmul(self.shift, rows, self.scale).view(-1, self.size, self.size, self.channels)
        return images.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)


def _check(split: Split, batch_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
    check_split(split)
    channels, height, width = split.images.shape[1:]
    if height != width:
        raise ValueError(f"the images must be square, not {height} x {width}")
    check_count("batch_size", batch_size)
    if len(mean) != channels or len(std) != channels or not all(value > 0 for value in std):
        raise ValueError(f"mean={list(mean)}, std={list(std)}: must be {channels} numbers each, one per channel, std > 0")


def seeded_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU, seeded by all of these numbers; trailing zeros make no difference."""
    (state,) = np.random.SeedSequence(entropy).generate_state(1)
    return torch.Generator().manual_seed(int(state))
