"""Images without content, for timing and tests."""

import torch

from spectral_repro.data.images import ImageData, Split
from spectral_repro.errors import UserError


def random_images(
    num_classes: int, channels: int, image_size: int, train_images: int | None, test_images: int | None
) -> ImageData:
    """Uniform uint8 noise (n, channels, image_size, image_size) from a fixed seed; the classes alternate.

    Args:
        num_classes: how many classes.
        channels: C.
        image_size: height and width.
        train_images, test_images: how many images.

    Returns:
        Training and test split.

    Raises:
        UserError: for train_images or test_images None, because there is no full set of images.

    Example:
        >>> data = random_images(num_classes=10, channels=3, image_size=32, train_images=100, test_images=50)
        >>> data.train.images.shape, data.test.labels[:3]
        (torch.Size([100, 3, 32, 32]), tensor([0, 1, 2]))
    """

    def split(key: str, count: int | None, seed: int) -> Split:
        if count is None:
            raise UserError(f"dataset.{key}=null means all images, but random noise has no full set: give a number")
        generator = torch.Generator().manual_seed(seed)
        shape = (count, channels, image_size, image_size)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(count) % num_classes)

    return ImageData(train=split("train_images", train_images, seed=0), test=split("test_images", test_images, seed=1))
