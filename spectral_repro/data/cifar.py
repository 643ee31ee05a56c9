"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the folders of the original archives."""

import pickle
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from spectral_repro.data.images import ImageData, Split, subset
from spectral_repro.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


def cifar10(
    root: str,
    download: bool = True,
    check_integrity: bool = True,
    train_images: int | None = None,
    test_images: int | None = None,
) -> ImageData:
    """50,000 training and 10,000 test images (3, 32, 32) of 10 classes from ``root``/cifar-10-batches-py.

    Args:
        root: folder that holds, or is to hold, the folder of the original archive.
        download: fetch the archive if that folder is missing or empty. A folder with files in it is never changed.
        check_integrity: refuse files whose md5 differs from the original archive's. False reads them and names them in the
            notes; they are pickles, which can run code, so read only a copy you trust.
        train_images, test_images: size of a fixed random subset; None: all.

    Raises:
        UserError: in one line, for data that are missing, cannot be fetched or read, differ from the original or are damaged.
    """
    from torchvision.datasets import CIFAR10

    return _load(CIFAR10, "labels", 10, root, download, check_integrity, train_images, test_images)


def cifar100(
    root: str,
    download: bool = True,
    check_integrity: bool = True,
    train_images: int | None = None,
    test_images: int | None = None,
) -> ImageData:
    """50,000 training and 10,000 test images (3, 32, 32) of 100 (fine) classes from ``root``/cifar-100-python.

    Arguments and errors as for `cifar10`.
    """
    from torchvision.datasets import CIFAR100

    return _load(CIFAR100, "fine_labels", 100, root, download, check_integrity, train_images, test_images)


def _load(
    archive: type["CIFAR10"],
    label_key: str,
    num_classes: int,
    root: str,
    download: bool,
    check_integrity: bool,
    train_images: int | None,
    test_images: int | None,
) -> ImageData:
    folder = Path(root).expanduser() / archive.base_folder

    def read(files: Iterable[tuple[str, str]]) -> Split:
        parts = [_read(folder / name, label_key, num_classes) for name, _ in files]
        return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))

    try:
        if _is_empty(folder):
            _fetch(archive, folder, download)
        differing = _differing(folder, dict([*archive.train_list, *archive.test_list]))
        if differing and check_integrity:
            raise UserError(
                f"{folder}: the md5 of {', '.join(differing)} differs from the original archive's. "
                f"Set dataset.check_integrity=false to use the files as they are, or move the folder away to download it anew"
            )
        train, test = read(archive.train_list), read(archive.test_list)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error}): check dataset.root and its permissions") from error
    notes = [f"the md5 of {', '.join(differing)} in {folder.name} differs from the original archive's"] if differing else []
    if (found := (len(train.labels), len(test.labels))) != (50_000, 10_000):
        notes.append(f"{folder.name} holds {found[0]} training and {found[1]} test images, not 50000 and 10000")
    return ImageData(subset(train, train_images), subset(test, test_images), tuple(notes))


def _is_empty(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def _fetch(archive: type["CIFAR10"], folder: Path, download: bool) -> None:
    """Download beside the place of the folder and move it there when it is complete."""
    from torchvision.datasets.utils import download_and_extract_archive

    if not download:
        raise UserError(
            f"{folder} is missing or empty and dataset.download=false: "
            f"set dataset.download=true, or dataset.root to the folder that holds {folder.name}"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
            download_and_extract_archive(archive.url, staging, filename=archive.filename, md5=archive.tgz_md5)
            if _is_empty(folder):  # no other run has been faster
                Path(staging, folder.name).rename(folder)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"{archive.url} could not be downloaded and unpacked in {folder.parent} ({error}): "
            f"do so by hand, or set dataset.root to a folder that holds {folder.name}"
        ) from error


def _differing(folder: Path, checksums: dict[str, str]) -> list[str]:
    """Names of the files with another md5; all files must be there."""
    from torchvision.datasets.utils import check_md5

    for name in checksums:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: add the file, or move the folder away to download it anew")
    return [name for name, md5 in checksums.items() if not check_md5(folder / name, md5)]


def _read(path: Path, label_key: str, num_classes: int) -> Split:
    """One pickled dictionary: data (n, 3072) uint8, channel by channel and row by row, and a list of n labels."""
    content = path.read_bytes()
    try:
        entry = pickle.loads(content, encoding="latin1")
        images, labels = torch.tensor(entry["data"]), torch.tensor(entry[label_key])
    except Exception as error:  # a damaged pickle may raise anything
        raise _damaged(path, repr(error)) from error
    if images.dtype != torch.uint8 or images.ndim != 2 or images.shape[1] != 3 * 32 * 32 or not len(images):
        raise _damaged(path, f"its data are {tuple(images.shape)} {images.dtype}, not (n, 3072) torch.uint8")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise _damaged(path, f"its {label_key} are {tuple(labels.shape)} {labels.dtype} for {len(images)} images")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise _damaged(path, f"its {label_key} are {labels.min()}..{labels.max()}, not within 0..{num_classes - 1}")
    return Split(images.view(-1, 3, 32, 32), labels)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged ({what}): restore it, or move {path.parent} away to download it anew")
