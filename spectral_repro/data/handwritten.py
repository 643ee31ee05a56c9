"""Handwritten digits from scikit-learn (the test part of UCI's optical recognition data set)."""

import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spectral_repro.data.images import ImageData, Split, fixed_order, subset

TRAIN_IMAGES = 1437


def digits(train_images: int | None = None, test_images: int | None = None) -> ImageData:
    """1,797 images (1, 8, 8) of 10 classes, grey values 0..16 scaled to 0..255; a fixed random split in 1,437 and 360.

    Args:
        train_images, test_images: size of a fixed random subset; None: all.

    Returns:
        Training and test split.

    Example:
        >>> digits().train.images.shape
        torch.Size([1437, 1, 8, 8])
    """
    pixels, labels = _table().long().split([64, 1], dim=1)
    images = pixels.view(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    labels = labels.squeeze(1)
    train, test = fixed_order(len(labels)).tensor_split([TRAIN_IMAGES])
    return ImageData(
        train=subset(Split(images[train], labels[train]), train_images),
        test=subset(Split(images[test], labels[test]), test_images),
        class_names=tuple("0123456789"),
    )


@functools.cache
def _table() -> Tensor:
    """A row of 64 pixels and the label per image, read from scikit-learn's file, because its import is slow."""
    specification = find_spec("sklearn")
    assert specification is not None and specification.origin is not None
    folder = Path(specification.origin).parent
    return torch.from_numpy(np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=","))
