"""The type of a data set: two splits of uint8 images with their classes."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spectral_repro.errors import UserError
from spectral_repro.linalg.checks import dtype_name

if TYPE_CHECKING:
    from spectral_repro.data.image_files import ImageFiles


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8, in memory or still in their files, and labels (N,) int64; both on the CPU.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.

    Example:
        >>> split = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> len(split.labels)
        4
    """

    images: "Tensor | ImageFiles"
    labels: Tensor


@dataclass(frozen=True)
class ImageData:
    """Training and test split, and a validation split if there is one.

    Attributes:
        notes: remarks that belong to every result on these images.
        class_names: by number; empty where the classes have none.
        validation: training images that were set aside; None: none.

    Example:
        >>> split = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> ImageData(train=split, test=split, class_names=("cat", "dog")).chosen_by
        'test'
    """

    train: Split
    test: Split
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    validation: Split | None = None

    @property
    def chosen_by(self) -> str:
        """The split whose accuracy decides which epoch was the best: "validation" where there is one, or else "test"."""
        return "validation" if self.validation else "test"


def check_split(split: Split) -> None:
    """Checks the images and labels of a split.

    Raises:
        TypeError: if they are not tensors, or files instead of the images.
        ValueError: for images that are not uint8 (N, C, H, W), labels that are not int64 (N,), and no images.
    """
    images, labels = split.images, split.labels
    if not isinstance(images, Tensor):
        from spectral_repro.data.image_files import ImageFiles

        if not isinstance(images, ImageFiles):
            raise TypeError(f"the images must be a tensor, not {type(images).__name__}")
    elif images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(f"the images must be uint8 (N, C, H, W), not {_described(images)}")
    if not isinstance(labels, Tensor):
        raise TypeError(f"the labels must be a tensor, not {type(labels).__name__}")
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ValueError(f"the labels must be int64 (N,), not {_described(labels)}")
    if len(labels) != images.shape[0]:
        raise ValueError(f"{images.shape[0]} images have {len(labels)} labels")
    if not len(labels):
        raise ValueError("there are no images")


def _described(values: Tensor) -> str:
    return f"{dtype_name(values.dtype)} {tuple(values.shape)}"


def fixed_order(count: int, seed: int = 0) -> Tensor:
    """One permutation of 0 .. count - 1 (int64), always the same for the same seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def chosen_images(total: int, count: int | None) -> Tensor:
    """The numbers of ``count`` images in a fixed random order, or of all in their own order for None.

    A smaller choice is part of a larger one.
    """
    return torch.arange(total) if count is None else fixed_order(total)[:count]


def subset(split: Split, count: int | None) -> Split:
    """The `chosen_images` of a split."""
    if count is None:
        return split
    chosen = chosen_images(len(split.labels), count)
    return Split(split.images[chosen], split.labels[chosen])


def hold_out(data: ImageData, count: int | None, fraction: float | None) -> ImageData:
    """Moves some training images into a validation split, where they are not augmented.

    The choice is random but always the same, whatever the seed of a run; a smaller validation split is part of a larger one.

    Args:
        count: how many images.
        fraction: the same as a part of the training images, rounded. None for both: no validation split.

    Raises:
        UserError: if no image would be left for one of the two splits.
    """
    if count is None and fraction is None:
        return data
    total = len(data.train.labels)
    key = "validation_images" if fraction is None else "validation_fraction"
    number = round(fraction * total) if fraction is not None else count or 0
    if not 0 < number < total:
        value = count if fraction is None else fraction
        raise UserError(f"dataset.{key}={value}: takes {number} of the {total} training images; both splits need images")
    held_out, left = fixed_order(total, seed=1).tensor_split([number])
    left, (images, labels) = left.sort().values, (data.train.images, data.train.labels)
    plain = images if isinstance(images, Tensor) else images.for_evaluation()
    return replace(data, train=Split(images[left], labels[left]), validation=Split(plain[held_out], labels[held_out]))
