"""What a data set is: two splits of uint8 images with their classes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from spectral_repro.data.image_files import ImageFiles


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8, in memory or still in their files, and labels (N,) int64; both on the CPU."""

    images: "Tensor | ImageFiles"
    labels: Tensor


@dataclass(frozen=True)
class ImageData:
    """Training and test split; ``notes`` says what a reader of a result on them must know."""

    train: Split
    test: Split
    notes: tuple[str, ...] = ()


def fixed_order(count: int) -> Tensor:
    """One permutation of 0 .. count - 1 (int64), always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def subset(split: Split, count: int | None) -> Split:
    """``count`` images of a fixed random choice, all of them for None; a smaller subset is part of a larger one."""
    if count is None:
        return split
    chosen = fixed_order(len(split.labels))[:count]
    return Split(split.images[chosen], split.labels[chosen])
