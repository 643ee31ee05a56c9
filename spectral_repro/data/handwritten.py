"""Handwritten digits that come with scikit-learn (the test part of UCI's optical recognition data set)."""

import torch

from spectral_repro.data.images import ImageData, Split, fixed_order, subset

TRAIN_IMAGES = 1437


def digits(train_images: int | None = None, test_images: int | None = None) -> ImageData:
    """1,797 images (1, 8, 8) of 10 classes, grey values 0..16 scaled to 0..255; a fixed random split in 1,437 and 360.

    Args:
        train_images, test_images: size of a fixed random subset; None: all.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.from_numpy(source.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(source.target)
    train, test = fixed_order(len(labels)).tensor_split([TRAIN_IMAGES])
    return ImageData(
        train=subset(Split(images[train], labels[train]), train_images),
        test=subset(Split(images[test], labels[test]), test_images),
    )
