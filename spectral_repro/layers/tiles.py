"""Images as blocks of channels, one tile of positions at a time, in the memory layout of the images."""

from collections.abc import Iterator

import torch
from torch import Tensor

CACHED = 2**19  # numbers in a tile on a CPU: the fastest power of two
DEVICE_TILES = 4  # how many tiles on other devices, of at least `CACHED` numbers: fewer would need more memory
WIDTH = {"cpu": 16, "cuda": 128}  # channels in a block: products of narrower blocks are slow, of wider ones mostly zeros


class Tiles:
    """Cuts images (N, C, L) of N images, C channels and L positions into tiles of shape (blocks, width, positions).

    In channels-last memory a tile is a run of positions of all images, and it has C / width blocks. In contiguous memory it is
    some whole images, and every image has C / width blocks of its own. So each tile is a view, and products read and write the
    images in place.

    Args:
        x: images, contiguous or channels-last (`dense`).
        group_size: channels that must stay in one block.
    """

    def __init__(self, x: Tensor, group_size: int):
        images, channels, length = x.shape
        self.channels_last = is_channels_last(x)
        self.width = block_width(channels, group_size, x.device) if self.channels_last else group_size
        self.blocks = channels // self.width
        most = CACHED if x.device.type == "cpu" else max(CACHED, x.numel() // DEVICE_TILES)
        if self.channels_last:
            self.axis, self.step = 2, max(1, min(most // channels, images * length))
        else:
            most_images = most // (channels * max(length, self.width))  # of their pixels, and of their products
            self.axis, self.step = 0, self.blocks * max(1, min(most_images, images))

    def centred(self, x: Tensor, shift: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The tiles of x - shift, each in the memory of the one before, and the tiles of other images at the same positions."""
        rows, shift = self._rows(x), shift.view(1, -1) if self.channels_last else self.per_block(shift)
        place = torch.empty_like(rows[: self.step])
        views = [self._blocks(self._rows(y)).split(self.step, self.axis) for y in others]
        for part, *parts in zip(rows.split(self.step), *views, strict=True):
            centred = torch.sub(part, shift[: len(part)], out=place[: len(part)])
            yield self._blocks(centred), *parts

    def per_block(self, values: Tensor) -> Tensor:
        """Values of channels (C,), as (blocks, width, 1), or matrices (blocks, width, width), for all blocks of a tile."""
        values = values.view(self.blocks, self.width, -1)
        if self.channels_last:
            return values
        images = self.step // self.blocks
        return values.expand(images, -1, -1) if self.blocks == 1 else values.repeat(images, 1, 1)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the images of a tile of one value for each block."""
        return values if self.channels_last else values.unflatten(0, (-1, self.blocks)).sum(0)

    def channel_sums(self, tile: Tensor) -> Tensor:
        """Sums over images and positions (C,), as a product of matrix and vector, the fastest way in either layout."""
        return self.summed((tile.flatten(0, 1) @ tile.new_ones(tile.shape[-1])).unflatten(0, tile.shape[:2])).flatten()

    def _rows(self, x: Tensor) -> Tensor:
        """Images cut along the first axis: (positions, C) in channels-last memory, else (images * blocks, width, positions)."""
        if self.channels_last:
            return x.mT.view(-1, x.shape[1])
        return x.view(len(x) * self.blocks, self.width, x.shape[2])

    def _blocks(self, rows: Tensor) -> Tensor:
        return rows.view(-1, self.blocks, self.width).permute(1, 2, 0) if self.channels_last else rows


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a position are next to each other in memory."""
    return x.mT.is_contiguous()


def dense(x: Tensor) -> Tensor:
    """The images, copied if they are neither contiguous nor channels-last."""
    return x if is_channels_last(x) else x.contiguous()


def in_layout_of(x: Tensor, y: Tensor) -> Tensor:
    """y, copied if its memory layout is not that of x."""
    return y.mT.contiguous().mT if is_channels_last(x) else y.contiguous()


def block_width(channels: int, group_size: int, device: torch.device) -> int:
    """The channels of a block: as many whole groups as `WIDTH` allows, the same number in each block."""
    groups, most = channels // group_size, WIDTH.get(device.type, WIDTH["cpu"])
    return group_size * max(k for k in range(1, groups + 1) if groups % k == 0 and (k == 1 or k * group_size <= most))


def widen(matrices: Tensor, width: int) -> Tensor:
    """Block-diagonal matrices (C / width, width, width) of the matrices of groups (G, d, d)."""
    size = matrices.shape[-1]
    wide = matrices.new_zeros(len(matrices) * size // width, width // size, size, width // size, size)
    wide.diagonal(dim1=1, dim2=3).copy_(matrices.unflatten(0, wide.shape[:2]).permute(0, 2, 3, 1))
    return wide.view(-1, width, width)


def diagonal_blocks(wide: Tensor, size: int) -> Tensor:
    """The matrices of groups (G, size, size) on the diagonals of wider ones: what `widen` was given."""
    number = wide.shape[-1] // size
    return wide.view(-1, number, size, number, size).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2).reshape(-1, size, size)
