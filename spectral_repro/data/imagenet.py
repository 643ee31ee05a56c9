"""ImageNet (ILSVRC2012) in folders, one for each class."""

from collections.abc import Sequence
from pathlib import Path

from spectral_repro.data.image_folder import labelled_splits
from spectral_repro.data.image_list import Crop, ImageListDataset, Labelled, Views
from spectral_repro.data.images import ImageData


def imagenet(
    root: str,
    num_classes: int = 1000,
    *,
    image_size: int,
    resize: int | Sequence[int],
    crop: Crop,
    views: Views = "plain",
    train_images: int | None = None,
    test_images: int | None = None,
    memory_limit_gib: float = 4,
    workers: int = 2,
) -> ImageData:
    """1,281,167 training and 50,000 test images of 1,000 classes from ``root/train/WNID/*`` and ``root/val/WNID/*``.

    The classes are the folders of train in the order of their names, as in torchvision. A damaged file raises an error when its
    batch is made. Other arguments: see `ImageListDataset.load`.

    Args:
        num_classes: the required number of classes.

    Returns:
        Training and test split.

    Raises:
        UserError: in one line, for folders that are missing or empty and a number of classes that is not there.

    Example:
        >>> data = imagenet("FOLDER", image_size=224, resize=256, crop="random_resized")  # doctest: +SKIP
    """
    dataset = _ImageNet(Path(root).expanduser(), num_classes)
    return dataset.load(image_size, resize, crop, views, train_images, test_images, memory_limit_gib, workers)


class _ImageNet(ImageListDataset):
    def __init__(self, folder: Path, num_classes: int):
        source = (
            "https://image-net.org/challenges/LSVRC/2012 (ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, for registered "
            "users; the images of a class in a folder of its WordNet number, such as n01440764, those of val too)"
        )
        super().__init__("ImageNet", folder, ("train", "val"), source, (1_281_167, 50_000))
        self.num_classes = num_classes

    def read(self) -> tuple[Labelled, Labelled]:
        return labelled_splits(self.folder / "train", self.folder / "val", self.num_classes)
