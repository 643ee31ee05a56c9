"""Small CIFAR folders in the format of the original archives."""

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spectral_repro.data import ImageData, cifar10, cifar100


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
class Cifar:
    """One of the two data sets, with a small copy under ``root``."""

    name: str
    load: Callable[..., ImageData]
    folder_name: str
    train_files: tuple[str, ...]
    test_file: str
    meta_file: str
    label_key: bytes
    num_classes: int
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.folder_name

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train_files, self.test_file)

    def entry(self, name: str, count: int = 6) -> dict[bytes, object]:
        """What the file of this name holds: the same at every call, the labels sorted."""
        rng = np.random.default_rng(self.files.index(name))
        data = rng.integers(256, size=(count, 3072), dtype=np.uint8)
        labels = sorted(rng.integers(self.num_classes, size=count).tolist())
        return {b"batch_label": name.encode(), self.label_key: labels, b"data": data}

    def write(self, count: int = 6) -> None:
        self.folder.mkdir(parents=True)
        for name in self.files:
            self.write_file(name, self.entry(name, count))
        classes = [f"class {k}".encode() for k in range(self.num_classes)]
        self.write_file(self.meta_file, {self.label_key[:-1] + b"_names": classes})

    def write_file(self, name: str, entry: object) -> None:
        (self.folder / name).write_bytes(dump(entry))


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, tmp_path) -> Cifar:
    """Not written yet: a test calls ``write`` where it wants the folder to be there."""
    root = tmp_path / "root"
    if request.param == "cifar10":
        train = tuple(f"data_batch_{k}" for k in range(1, 6))
        return Cifar("cifar10", cifar10, "cifar-10-batches-py", train, "test_batch", "batches.meta", b"labels", 10, root)
    return Cifar("cifar100", cifar100, "cifar-100-python", ("train",), "test", "meta", b"fine_labels", 100, root)
