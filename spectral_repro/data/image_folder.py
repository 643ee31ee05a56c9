"""The user's own images, in a folder for each class."""

from pathlib import Path

import torch

from spectral_repro.data.folders import visible
from spectral_repro.data.images import ImageData, Split, subset
from spectral_repro.errors import UserError


def image_folder(
    folder: str,
    num_classes: int,
    channels: int = 3,
    image_size: int = 64,
    train_images: int | None = None,
    test_images: int | None = None,
    memory_limit_gib: float = 4,
    workers: int = 2,
) -> ImageData:
    """Images (C, S, S) from ``folder``/train/CLASS/* and ``folder``/test/CLASS/*, or ``folder``/val where there is no test.

    The classes are the folders of train in the order of their names. Files of any size and mode that PIL reads become C
    channels, their shorter side S pixels (bilinear, antialiased), their centre cropped. Hidden files and folders are left out.

    Args:
        folder: of train and test.
        num_classes: how many classes there must be.
        channels: C, 1 (grey) or 3 (red, green, blue).
        image_size: S.
        train_images, test_images: size of a fixed random subset; None: all. Other files are not looked into.
        memory_limit_gib: a split whose N * C * S * S bytes are more than this is not held in memory: only the headers of its
            files are read now, and its images are decoded for each batch.
        workers: processes that decode; 0: this one.

    Raises:
        UserError: in one line, for folders that are missing or empty, a number of classes that is not there, and files that
            cannot be read as images.
    """
    from spectral_repro.data.image_files import MODES, ImageFiles

    if channels not in MODES:
        raise UserError(f"dataset.channels={channels}: must be 1 (grey) or 3 (colour) for a folder of images")
    root = Path(folder).expanduser()
    try:
        test_name = "val" if (root / "val").is_dir() and not (root / "test").is_dir() else "test"
        train, test = labelled_splits(root / "train", root / test_name, num_classes)
    except OSError as error:
        raise UserError(f"{root} cannot be read ({error}): check dataset.root and its permissions") from error

    def load(labels: dict[str, int], count: int | None) -> Split:
        files = ImageFiles(list(labels), channels, image_size, workers)
        split = subset(Split(files, torch.tensor(list(labels.values()))), count)
        return Split(split.images.within(memory_limit_gib), split.labels)

    notes = ("the test images are those of the folder val",) if test_name == "val" else ()
    names = tuple(path.name for path in _class_folders(root / "train"))
    return ImageData(load(train, train_images), load(test, test_images), notes, names)


def labelled_splits(train: Path, test: Path, num_classes: int) -> tuple[dict[str, int], dict[str, int]]:
    """The number of its class for the path of every training and test image; the classes are the folders of ``train``.

    Raises:
        UserError: for folders that are missing or empty, and another number of classes.
    """
    classes = [path.name for path in _class_folders(train)]
    if len(classes) != num_classes:
        raise UserError(f"dataset.num_classes={num_classes}: {train} has {len(classes)} classes")
    return _labelled(train, classes), _labelled(test, classes)


def _class_folders(folder: Path) -> list[Path]:
    try:
        folders = [path for path in visible(folder) if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} is missing: dataset.root must be a folder with train and test (or val), in each a folder for every class"
        ) from error
    if not folders:
        raise UserError(f"{folder} holds no folders: the images of a class lie in a folder of its name")
    return folders


def _labelled(folder: Path, classes: list[str]) -> dict[str, int]:
    """The number of its class for every file, in the order of their paths."""
    labels, numbers = {}, {name: number for number, name in enumerate(classes)}
    for path in _class_folders(folder):
        if path.name not in numbers:
            raise UserError(f"{path}: train has no class of this name; rename the folder or take it out")
        if not (files := visible(path)):
            raise UserError(f"{path} is empty: put the images of this class there, or take the folder out")
        labels |= {str(file): numbers[path.name] for file in files}
    return labels
