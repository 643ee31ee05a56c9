"""The user's own images, in a folder for each class."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from spectral_repro.data.images import ImageData, Split, chosen_images, fixed_order
from spectral_repro.errors import UserError
from spectral_repro.listing import visible

PARTS = ("train", "test", "val")


def image_folder(
    folder: str,
    num_classes: int | None = None,
    channels: int = 3,
    image_size: int = 64,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    train_images: int | None = None,
    test_images: int | None = None,
    memory_limit_gib: float = 4,
    workers: int = 2,
) -> ImageData:
    """Images (C, S, S) from ``folder/train/CLASS/*`` and ``folder/test/CLASS/*``, or ``folder/val`` where there is no test.

    Without these three, the images are those of ``folder/CLASS/*``, and a random part of every class are the test images.

    The classes are the folders of train in the order of their names. Files of any size and mode that PIL reads become C
    channels, their shorter side S pixels (bilinear, antialiased), their centre cropped. For orientation tags and transparency
    see ``spectral_repro.data.image_files.as_channels``. Hidden files and those that operating systems leave are ignored.

    Args:
        folder: of train and test, or of the classes.
        num_classes: the required number of classes; None: any.
        channels: C, 1 (grey) or 3 (red, green, blue).
        image_size: S.
        test_fraction: part of the images of every class for the test split, without folders train and test. At least one image
            of a class is for training and, if it has more, at least one for testing.
        split_seed: seed of the choice of these test images.
        train_images, test_images: size of a fixed random subset; None: all. Other files are not read.
        memory_limit_gib: a split whose N * C * S * S bytes are more than this is not held in memory: only the headers of its
            files are read now, and its images are decoded for each batch.
        workers: processes that decode; 0: this one.

    Returns:
        Training and test split.

    Raises:
        UserError: in one line, for folders that are missing or empty, a number of classes that is not there, and files that
            cannot be read as images.

    Example:
        >>> from PIL import Image
        >>> for name in ("cat", "dog"):
        ...     for number in range(5):
        ...         Path("pets", name).mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (90, 60)).save(f"pets/{name}/{number}.png")
        >>> data = image_folder("pets", image_size=32)
        >>> data.class_names, data.train.images.shape, data.test.images.shape
        (('cat', 'dog'), torch.Size([8, 3, 32, 32]), torch.Size([2, 3, 32, 32]))
    """
    from spectral_repro.data.image_files import MODES, ImageFiles

    if channels not in MODES:
        raise UserError(f"dataset.channels={channels}: must be 1 (grey) or 3 (colour) for a folder of images")
    root = Path(folder).expanduser()
    notes: tuple[str, ...] = ()
    try:
        train_folder, test_folder = _parts(root)
        names = tuple(path.name for path in _class_folders(train_folder))
        if test_folder:
            train, test = labelled_splits(train_folder, test_folder, num_classes)
            notes = ("the test images are those of the folder val",) if test_folder.name == "val" else ()
        else:
            _check_number(train_folder, len(names), num_classes)
            train, test = _drawn(_labelled(root, names), test_fraction, split_seed)
            notes = (f"the test images are {100 * test_fraction:g} % of every class, drawn by dataset.split_seed={split_seed}",)
    except OSError as error:
        raise UserError(f"{root} cannot be read ({error}): check dataset.root and its permissions") from error

    def load(labels: dict[str, int], count: int | None) -> Split:
        files = ImageFiles(list(labels), channels, image_size, workers)
        chosen = chosen_images(len(labels), count)
        return Split(files[chosen].within(memory_limit_gib), torch.tensor(list(labels.values()))[chosen])

    return ImageData(load(train, train_images), load(test, test_images), notes, names)


def classes_and_content(folder: str) -> tuple[int, str]:
    """How many classes the training images of a folder have, and 16 hexadecimal digits of the names and sizes of all images.

    Raises:
        UserError: if it has none or cannot be read.
    """
    root, digest = Path(folder).expanduser(), hashlib.sha256()
    try:
        parts = [_class_folders(part) for part in _parts(root) if part]
        for path in (file for part in parts for of_class in part for file in visible(of_class)):
            size = path.stat().st_size if path.exists() else None  # of a broken link
            digest.update(os.fsencode(f"{path.relative_to(root).as_posix()}\0{size}\n"))
        return len(parts[0]), digest.hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{root} cannot be read ({error}): check dataset.root and its permissions") from error


def labelled_splits(train: Path, test: Path, num_classes: int | None) -> tuple[dict[str, int], dict[str, int]]:
    """The number of the class of every training and test image, by its path; the classes are the folders of ``train``.

    Raises:
        UserError: for folders that are missing or empty, and another number of classes.
    """
    names = [path.name for path in _class_folders(train)]
    _check_number(train, len(names), num_classes)
    return _labelled(train, names), _labelled(test, names)


def _parts(root: Path) -> tuple[Path, Path | None]:
    """The folders of the training and of the test images; ``root`` itself and None if it holds the folders of the classes."""
    try:
        parts = [path.name for path in visible(root) if path.name in PARTS and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(root) from error
    if not parts:
        return root, None
    return root / "train", root / ("val" if "val" in parts and "test" not in parts else "test")


def _missing(folder: Path) -> UserError:
    return UserError(
        f"{folder} is missing: dataset.root must be a folder with train and test (or val), in each a folder for every class, "
        "or with nothing but a folder for every class"
    )


def _check_number(folder: Path, found: int, num_classes: int | None) -> None:
    if num_classes not in (None, found):
        raise UserError(f"dataset.num_classes={num_classes}: {folder} has {found} classes")


def _class_folders(folder: Path) -> list[Path]:
    try:
        folders = [path for path in visible(folder) if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(folder) from error
    if not folders:
        raise UserError(f"{folder} has no subfolders: put the images of each class into a folder with its name")
    return folders


def _labelled(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """The number of its class for every file, in the order of their paths."""
    labels: dict[str, int] = {}
    numbers = {name: number for number, name in enumerate(names)}
    for path in _class_folders(folder):
        if path.name not in numbers:
            raise UserError(f"{path}: train has no class of this name; rename the folder, or remove it")
        if not (files := visible(path)):
            raise UserError(f"{path} is empty: put the images of this class there, or remove the folder")
        labels |= {str(file): numbers[path.name] for file in files}
    return labels


def _drawn(labels: dict[str, int], fraction: float, seed: int) -> tuple[dict[str, int], dict[str, int]]:
    """The labels in two parts, the second with a random fraction of every class."""
    paths, numbers = list(labels), torch.tensor(list(labels.values()))
    order, chosen = fixed_order(len(paths), seed), set()
    for number in range(int(numbers.max()) + 1):
        members = order[numbers[order] == number].tolist()
        chosen.update(members[: min(max(round(fraction * len(members)), 1), len(members) - 1)])
    if not chosen:
        raise UserError("dataset.root: every class has one image; the test images are drawn from classes with more")
    train, test = ({paths[i]: labels[paths[i]] for i in range(len(paths)) if (i in chosen) is part} for part in (False, True))
    return train, test
