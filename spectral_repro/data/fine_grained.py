"""Birds, cars, dogs and aircraft: photographs of classes that look much alike, in their published files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from spectral_repro.data.downloaded import fetch, unpack
from spectral_repro.data.image_list import ImageListDataset, Labelled
from spectral_repro.data.images import ImageData
from spectral_repro.errors import UserError, first_line


def cub(root: str, **options) -> ImageData:
    """5,994 training and 5,794 test images of 200 species of birds from ``root``/CUB_200_2011 (Wah et al., 2011).

    Arguments and errors: see `ImageListDataset.load`.
    """
    return _CUB(root).load(**options)


def cars(root: str, **options) -> ImageData:
    """8,144 training and 8,041 test images of 196 models of cars from ``root``/stanford_cars (Krause et al., 2013).

    Arguments and errors: see `ImageListDataset.load`.
    """
    return _Cars(root).load(**options)


def dogs(root: str, **options) -> ImageData:
    """12,000 training and 8,580 test images of 120 breeds of dogs from ``root`` (Khosla et al., 2011).

    Arguments and errors: see `ImageListDataset.load`.
    """
    return _Dogs(root).load(**options)


def aircraft(root: str, download: bool = True, **options) -> ImageData:
    """6,667 training and 3,333 test images of 100 variants of aircraft from ``root``/fgvc-aircraft-2013b (Maji et al., 2013).

    The published training and validation images together are the training images. Other arguments: see `ImageListDataset.load`.

    Args:
        download: fetch the archive if that folder is missing or empty. A folder with files in it is never changed.
    """
    return _Aircraft(root, download).load(**options)


class _CUB(ImageListDataset):
    """Lists with a line for each image, its number and its path, its class from 1 on, or 1 if it is for training."""

    lists = ("images.txt", "image_class_labels.txt", "train_test_split.txt")

    def __init__(self, root: str):
        super().__init__(
            "CUB-200-2011",
            Path(root).expanduser() / "CUB_200_2011",
            ("images", *self.lists),
            "https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)",
            (5_994, 5_794),
        )

    def read(self) -> tuple[Labelled, Labelled]:
        paths, classes, training = (self._by_number(name) for name in self.lists)
        with _intact(self.folder / self.lists[0]):
            labels = {True: {}, False: {}}
            for number, path in paths.items():
                labels[training[number] == "1"][str(self.folder / "images" / path)] = int(classes[number]) - 1
        return self.listed(self.lists[0], labels[True]), self.listed(self.lists[0], labels[False])

    def _by_number(self, name: str) -> dict[str, str]:
        lines = _lines(self.folder / name)
        with _intact(self.folder / name):
            return dict(line.split(maxsplit=1) for line in lines)


class _Cars(ImageListDataset):
    """Matlab files: a structure of file name and class, from 1 on, for each image."""

    lists = {"cars_train": "devkit/cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}

    def __init__(self, root: str):
        super().__init__(
            "Stanford Cars",
            Path(root).expanduser() / "stanford_cars",
            (*self.lists, *self.lists.values()),
            "a copy (the original address is gone; https://github.com/pytorch/vision/issues/7545 names copies)",
            (8_144, 8_041),
        )

    def read(self) -> tuple[Labelled, Labelled]:
        train, test = (self._split(images, annotations) for images, annotations in self.lists.items())
        return train, test

    def _split(self, images: str, annotations: str) -> Labelled:
        (entries,) = _matlab(self.folder / annotations, "annotations")
        with _intact(self.folder / annotations):
            labels = {str(self.folder / images / entry["fname"]): int(entry["class"]) - 1 for entry in entries}
        return self.listed(annotations, labels)


class _Dogs(ImageListDataset):
    """Matlab files: the paths of the images, and their classes from 1 on."""

    lists = ("train_list.mat", "test_list.mat")

    def __init__(self, root: str):
        super().__init__(
            "Stanford Dogs",
            Path(root).expanduser(),
            ("Images", *self.lists),
            "http://vision.stanford.edu/aditya86/ImageNetDogs (images.tar and lists.tar)",
            (12_000, 8_580),
        )

    def read(self) -> tuple[Labelled, Labelled]:
        train, test = (self._split(name) for name in self.lists)
        return train, test

    def _split(self, name: str) -> Labelled:
        files, classes = _matlab(self.folder / name, "file_list", "labels")
        with _intact(self.folder / name):
            labels = {str(self.folder / "Images" / file): int(number) - 1 for file, number in zip(files, classes, strict=True)}
        return self.listed(name, labels)


class _Aircraft(ImageListDataset):
    """Lists with a line for each image, its number and its variant; the classes are the lines of variants.txt."""

    lists = ("data/images_variant_trainval.txt", "data/images_variant_test.txt")
    url = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
    md5 = "d4acdd33327262359767eeaa97a4f732"

    def __init__(self, root: str, download: bool):
        folder = Path(root).expanduser() / "fgvc-aircraft-2013b"
        super().__init__("FGVC-Aircraft", folder, ("data/images", "data/variants.txt", *self.lists), self.url, (6_667, 3_333))
        self.download = download

    def require(self) -> None:
        fetch(self.folder, self.url, partial(unpack, self.url, self.url.rpartition("/")[2], self.md5), self.download)
        super().require()

    def read(self) -> tuple[Labelled, Labelled]:
        variants = _lines(self.folder / "data" / "variants.txt")
        numbers = {variant.strip(): number for number, variant in enumerate(variants)}
        train, test = (self._split(name, numbers) for name in self.lists)
        return train, test

    def _split(self, name: str, numbers: dict[str, int]) -> Labelled:
        images = self.folder / "data" / "images"
        lines = _lines(self.folder / name)
        with _intact(self.folder / name):
            entries = [line.strip().split(" ", 1) for line in lines]
            labels = {str(images / f"{number}.jpg"): numbers[variant] for number, variant in entries}
        return self.listed(name, labels)


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    with _intact(path):
        return content.decode().splitlines()


def _matlab(path: Path, *names: str) -> list[np.ndarray]:
    """The vectors of these names."""
    from scipy.io import loadmat

    file = BytesIO(path.read_bytes())
    with _intact(path):
        content = loadmat(file, squeeze_me=True)
        return [np.atleast_1d(content[name]) for name in names]


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Errors in the block are those of what the file holds."""
    try:
        yield
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{path} is damaged ({type(error).__name__}: {first_line(error)}): restore it") from error
