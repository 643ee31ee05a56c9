"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the folders of the original archives."""

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spectral_repro.data.downloaded import DownloadedDataset, Published
from spectral_repro.data.images import ImageData, Split

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
        download: download the archive if that folder is missing or empty. A folder with files is never changed. An archive in
            ``root`` is unpacked in any case.
        check_integrity: raise an error for files whose md5 differs from the published one. False: read them, with a note.
        train_images, test_images: size of a fixed random subset; None: all.

    Returns:
        Training and test split.

    Raises:
        UserError: in one line, for data that are missing, cannot be fetched or read, differ from the original or are damaged.

    Example:
        >>> data = cifar10("FOLDER", train_images=1000)  # doctest: +SKIP
    """
    from torchvision.datasets import CIFAR10

    return _Cifar(CIFAR10, "labels", 10, root).load(download, check_integrity, train_images, test_images)


def cifar100(
    root: str,
    download: bool = True,
    check_integrity: bool = True,
    train_images: int | None = None,
    test_images: int | None = None,
) -> ImageData:
    """50,000 training and 10,000 test images (3, 32, 32) of 100 (fine) classes from ``root``/cifar-100-python.

    Arguments and errors as for `cifar10`.

    Returns:
        Training and test split.

    Example:
        >>> data = cifar100("FOLDER", train_images=1000)  # doctest: +SKIP
    """
    from torchvision.datasets import CIFAR100

    return _Cifar(CIFAR100, "fine_labels", 100, root).load(download, check_integrity, train_images, test_images)


class _Arrays(pickle.Unpickler):
    """Reads pickled arrays and plain values only; other objects in a pickle could run code."""

    def find_class(self, module: str, name: str) -> object:
        if name in ("_reconstruct", "ndarray", "dtype", "scalar") and module.partition(".")[0] == "numpy":
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):  # of bytes, in pickles of protocol 2
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Cifar(DownloadedDataset):
    """Files of one pickled dictionary each: data (n, 3072) uint8, channel by channel and row by row, and a list of n labels."""

    def __init__(self, archive: type["CIFAR10"], label_key: str, num_classes: int, root: str):
        self.archive, self.label_key, self.num_classes = archive, label_key, num_classes
        place = Path(root).expanduser()
        super().__init__(
            name=archive.base_folder,
            root=place,
            folder=place / archive.base_folder,
            sources={archive.base_folder: Published(archive.url, archive.filename, archive.tgz_md5)},
            train_files=dict(archive.train_list),
            test_files=dict(archive.test_list),
            sizes=(50_000, 10_000),
        )

    def class_names(self) -> tuple[str, ...]:
        try:
            content = (self.folder / self.archive.meta["filename"]).read_bytes()
            names = _Arrays(io.BytesIO(content), encoding="latin1").load()[self.archive.meta["key"]]
            return tuple(map(str, names)) if len(names) == self.num_classes else ()
        except Exception:  # a damaged file may raise anything, and the images can be used without it
            return ()

    def read(self, path: Path) -> Split:
        content = path.read_bytes()
        try:
            entry = _Arrays(io.BytesIO(content), encoding="latin1").load()
            images, labels = torch.tensor(entry["data"]), torch.tensor(entry[self.label_key])
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(repr(error)) from error
        if images.dtype != torch.uint8 or images.ndim != 2 or images.shape[1] != 3 * 32 * 32 or not len(images):
            raise ValueError(f"its data are {tuple(images.shape)} {images.dtype}, not (n, 3072) torch.uint8")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise ValueError(f"its {self.label_key} are {tuple(labels.shape)} {labels.dtype} for {len(images)} images")
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(f"its {self.label_key} are {labels.min()}..{labels.max()}, not within 0..{self.num_classes - 1}")
        return Split(images.view(-1, 3, 32, 32), labels)
