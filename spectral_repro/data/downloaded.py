"""Base of downloaded data sets: downloads files, compares them with the published ones, and reads them."""

import shutil
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from spectral_repro.data.images import ImageData, Split, subset
from spectral_repro.errors import UserError
from spectral_repro.listing import visible


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        url: its address.
        name: its own.
        md5: of its content.
        is_archive: whether it is a tar archive, such as of a folder.
    """

    url: str
    name: str
    md5: str
    is_archive: bool = True

    def lies_beside(self, place: Path) -> bool:
        """Whether it is an archive that is in the folder of this path."""
        return self.is_archive and (place.parent / self.name).is_file()

    def bring(self, folder: Path) -> None:
        """Puts it, or the content of an archive, into an empty folder. An archive beside the folder is used if there is one.

        Raises:
            UserError: if the archive beside the folder has another md5.
            RuntimeError, OSError, HTTPException: if the download fails, has another md5, or would write outside the folder.
        """
        from torchvision.datasets.utils import check_md5, download_url

        source = folder.parent / self.name if self.lies_beside(folder) else folder / self.name
        if source.parent == folder:
            download_url(self.url, folder, self.name, self.md5)
        elif not check_md5(source, self.md5):
            raise UserError(f"{source}: its md5 is not that of the original archive, {self.md5}; restore it, or move it away")
        if self.is_archive:
            try:
                _unpack(source, folder)
            except (tarfile.TarError, EOFError, zlib.error) as error:
                raise RuntimeError(f"{self.name}: {error}") from error
            (folder / self.name).unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar archive, and writes nothing outside the folder."""
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
            return
        for member in tar.getmembers():  # Python before 3.11.4
            if not (member.isfile() or member.isdir()) or not (folder / member.name).resolve().is_relative_to(folder.resolve()):
                raise tarfile.TarError(f"{member.name} is a link, a device, or outside the folder")
        tar.extractall(folder)


@dataclass
class DownloadedDataset(ABC):
    """A data set in its published files.

    Attributes:
        name: for notes.
        root: folder that holds, or is to hold, what is downloaded.
        folder: where the files lie: ``root``, or a folder in it.
        sources: for every file or folder in ``root``, by its name there.
        train_files, test_files: md5 of every file by its name.
        sizes: the published numbers of training and test images.

    Example:
        >>> type(cifar10("FOLDER"))  # doctest: +SKIP
        <class 'spectral_repro.data.images.ImageData'>
    """

    name: str
    root: Path
    folder: Path
    sources: dict[str, Published]
    train_files: dict[str, str]
    test_files: dict[str, str]
    sizes: tuple[int, int]

    @abstractmethod
    def read(self, path: Path) -> Split:
        """The images of one file. Raises ValueError with the fault of a damaged file."""

    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """By number; empty if they cannot be read."""

    def load(self, download: bool, check_integrity: bool, train_images: int | None, test_images: int | None) -> ImageData:
        """The data set.

        Args:
            download: download what is missing or empty. What exists is never changed. An archive beside its missing folder is
                unpacked in any case, if its md5 is the published one.
            check_integrity: raise an error for files whose md5 differs from the published one. False: read them, with a note.
            train_images, test_images: size of a fixed random subset; None: all.

        Raises:
            UserError: in one line, for data that are missing, cannot be fetched or read, differ from the original or are
                damaged.
        """
        try:
            for name, source in self.sources.items():
                fetch(self.root / name, source, download)
            differing = self._differing()
            if differing and check_integrity:
                raise UserError(
                    f"{self.folder}: the md5 of {', '.join(differing)} differs from the original archive's. Set "
                    f"dataset.check_integrity=false to use the files as they are, or move {self._places(differing)} away to "
                    "download again"
                )
            train, test = self._read(self.train_files), self._read(self.test_files)
        except OSError as error:
            raise UserError(f"{self.folder} cannot be read ({error}): check dataset.root and its permissions") from error
        notes = [f"the md5 of {', '.join(differing)} in {self.name} differs from the original archive's"] if differing else []
        if (found := (len(train.labels), len(test.labels))) != self.sizes:
            counts = "{} training and {} test images, not {} and {}".format(*found, *self.sizes)
            notes.append(f"{self.name} holds {counts}")
        return ImageData(subset(train, train_images), subset(test, test_images), tuple(notes), self.class_names())

    def _differing(self) -> list[str]:
        """Names of the files with another md5; all files must exist."""
        from torchvision.datasets.utils import check_md5

        checksums = self.train_files | self.test_files
        for name in checksums:
            if not (self.folder / name).is_file():
                raise UserError(
                    f"{self.folder / name} is missing: add the file, or move {self._places([name])} away to download it again"
                )
        return [name for name, md5 in checksums.items() if not check_md5(self.folder / name, md5)]

    def _read(self, names: Iterable[str]) -> Split:
        parts = [self._read_file(name) for name in names]
        images = [part.images for part in parts if isinstance(part.images, Tensor)]
        return Split(torch.cat(images), torch.cat([part.labels for part in parts]))

    def _read_file(self, name: str) -> Split:
        path = self.folder / name
        try:
            return self.read(path)
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}): restore it, or move {self._places([name])} away to download it again"
            ) from error

    def _places(self, names: list[str]) -> str:
        """What was downloaded with these files in it."""
        parts = [(self.folder / name).relative_to(self.root).parts[0] for name in names]
        return ", ".join(str(self.root / part) for part in dict.fromkeys(parts))


def fetch(place: Path, source: Published, download: bool, group: str = "dataset") -> None:
    """Gets a missing or empty file or folder from an archive beside it, or downloads it; it is moved into place when complete.

    Args:
        place: of a file or a folder.
        source: where it comes from.
        download: False: not allowed.
        group: the keys ``download`` and ``root`` of the configuration are in, for messages.

    Raises:
        UserError: if it is missing and may not be downloaded, or the download fails.
    """
    if not _is_missing(place):
        return
    name, root, beside = place.name, place.parent, source.lies_beside(place)
    if not download and not beside:
        raise UserError(
            f"{place} is missing or empty and {group}.download=false: "
            f"set {group}.download=true, or {group}.root to the folder that holds {name}"
            f"{f' or the archive {source.name}' * source.is_archive}"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{name}-", dir=root) as staging:
            source.bring(Path(staging))
            if _is_missing(place):  # unless another run was faster
                _clear(place)
                Path(staging, name).rename(place)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"{root / source.name} could not be unpacked ({error}): unpack it by hand"
            if beside
            else f"{source.url} could not be downloaded into {root} ({error}): "
            f"put {name} there by hand, or set {group}.root to a folder that holds it"
        ) from error


def _is_missing(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not visible(path))


def _clear(path: Path) -> None:
    """Removes a folder that holds only files of the operating system, so that it can be replaced."""
    if path.is_dir() and not visible(path):
        shutil.rmtree(path)
