"""Small copies of downloaded data sets, in the format of the original archives."""

import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets

from spectral_repro.data import ImageData, cifar10, cifar100, svhn
from spectral_repro.errors import UserError


@dataclass(frozen=True)
class Copy:
    """One of the data sets, with a small copy in ``folder`` once it is written."""

    name: str
    load: Callable[..., ImageData]
    root: Path
    folder: Path
    train_files: tuple[str, ...]
    test_file: str
    num_classes: int

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train_files, self.test_file)

    @property
    def archive(self) -> type:
        """torchvision's class."""
        return getattr(torchvision.datasets, self.name.upper())

    def images(self, name: str, count: int = 6) -> np.ndarray:
        """The images (n, 3, 32, 32) of a file: the same at every call."""
        return np.random.default_rng(self.files.index(name)).integers(256, size=(count, 3, 32, 32), dtype=np.uint8)

    def labels(self, name: str, count: int = 6) -> list[int]:
        """The labels of a file, sorted: the same at every call."""
        return sorted(np.random.default_rng(self.files.index(name)).integers(self.num_classes, size=count).tolist())

    def write(self, count: int = 6) -> None:
        self.folder.mkdir(parents=True)
        for name in self.files:
            self.write_file(name, self.entry(name, count))

    def md5(self, name: str) -> str:
        return hashlib.md5((self.folder / name).read_bytes()).hexdigest()


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the strings of Python 2, which its ``pickle.load`` reads as text or bytes, whichever is asked for."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(text)) + text)

    dispatch[bytes] = save_string


def dump(entry: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(entry)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@dataclass(frozen=True)
class Cifar(Copy):
    meta_file: str
    label_key: bytes

    def entry(self, name: str, count: int = 6) -> dict[bytes, object]:
        data = self.images(name, count).reshape(count, -1)
        return {b"batch_label": name.encode(), self.label_key: self.labels(name, count), b"data": data}

    def write(self, count: int = 6) -> None:
        super().write(count)
        classes = [f"class {k}".encode() for k in range(self.num_classes)]
        self.write_file(self.meta_file, {self.label_key[:-1] + b"_names": classes})

    def write_file(self, name: str, entry: object) -> None:
        (self.folder / name).write_bytes(dump(entry))

    def alter(self, name: str) -> None:
        """The same images in a file of another md5."""
        self.write_file(name, {**self.entry(name), b"batch_label": b"another"})

    def publish(self, monkeypatch) -> dict[str, bytes]:
        """Makes the copy the original, and says what lies at the addresses of the download."""
        served = io.BytesIO()
        with tarfile.open(fileobj=served, mode="w:gz") as tar:
            tar.add(self.folder, self.folder.name)
        monkeypatch.setattr(self.archive, "train_list", [[name, self.md5(name)] for name in self.train_files])
        monkeypatch.setattr(self.archive, "test_list", [[self.test_file, self.md5(self.test_file)]])
        monkeypatch.setattr(self.archive, "meta", {**self.archive.meta, "md5": self.md5(self.meta_file)})
        monkeypatch.setattr(self.archive, "tgz_md5", hashlib.md5(served.getvalue()).hexdigest())
        return {self.archive.url: served.getvalue()}


@dataclass(frozen=True)
class Svhn(Copy):
    def entry(self, name: str, count: int = 6) -> dict[str, np.ndarray]:
        digits = [label or 10 for label in self.labels(name, count)]
        return {"X": self.images(name, count).transpose(2, 3, 1, 0), "y": np.array(digits, dtype=np.uint8)[:, None]}

    def write_file(self, name: str, entry: dict[str, np.ndarray]) -> None:
        scipy.io.savemat(self.folder / name, entry, do_compression=True)

    def alter(self, name: str) -> None:
        scipy.io.savemat(self.folder / name, self.entry(name), do_compression=False)

    def publish(self, monkeypatch) -> dict[str, bytes]:
        parts = {name.partition("_")[0]: name for name in self.files}
        published = {part: [self.archive.split_list[part][0], name, self.md5(name)] for part, name in parts.items()}
        monkeypatch.setattr(self.archive, "split_list", published)
        return {url: (self.folder / name).read_bytes() for url, name, _ in published.values()}


def small_copy(name: str, root: Path) -> Copy:
    """Not written yet: a test calls ``write`` where it wants the folder to be there."""
    if name == "cifar10":
        train = tuple(f"data_batch_{k}" for k in range(1, 6))
        return Cifar(name, cifar10, root, root / "cifar-10-batches-py", train, "test_batch", 10, "batches.meta", b"labels")
    if name == "cifar100":
        return Cifar(name, cifar100, root, root / "cifar-100-python", ("train",), "test", 100, "meta", b"fine_labels")
    train = ("train_32x32.mat", "extra_32x32.mat") if name == "svhn_extra" else ("train_32x32.mat",)
    return Svhn("svhn", partial(svhn, extra=len(train) > 1), root, root, train, "test_32x32.mat", 10)


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, tmp_path) -> Cifar:
    return small_copy(request.param, tmp_path / "root")


@pytest.fixture(name="svhn", params=["svhn", "svhn_extra"])
def small_svhn(request, tmp_path) -> Svhn:
    return small_copy(request.param, tmp_path / "root")


@pytest.fixture(params=["cifar10", "cifar100", "svhn", "svhn_extra"])
def published(request, tmp_path) -> Copy:
    return small_copy(request.param, tmp_path / "root")


@pytest.fixture
def error_of() -> Callable[..., str]:
    def message(load: Callable, *args: object, **kwargs: object) -> str:
        with pytest.raises(UserError) as caught:
            load(*args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message
