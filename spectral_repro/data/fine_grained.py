"""Birds, cars, dogs and aircraft: photographs of similar classes, in their published files."""

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np

from spectral_repro.data.downloaded import Published, fetch
from spectral_repro.data.image_list import Crop, ImageListDataset, Labelled, Views
from spectral_repro.data.images import ImageData
from spectral_repro.errors import UserError, first_line

Value = TypeVar("Value")


def cub(
    root: str,
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
    """5,994 training and 5,794 test images of 200 species of birds from ``root``/CUB_200_2011 (Wah et al., 2011).

    CUB_200_2011.tgz is unpacked if it is beside the missing folder. Arguments and errors: see `ImageListDataset.load`.

    Returns:
        Training and test split.

    Example:
        >>> data = cub("FOLDER", image_size=224, resize=256, crop="random_resized")  # doctest: +SKIP
    """
    return _CUB(root).load(image_size, resize, crop, views, train_images, test_images, memory_limit_gib, workers)


def cars(
    root: str,
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
    """8,144 training and 8,041 test images of 196 models of cars from ``root``/stanford_cars (Krause et al., 2013).

    Arguments and errors: see `ImageListDataset.load`.

    Returns:
        Training and test split.

    Example:
        >>> data = cars("FOLDER", image_size=224, resize=256, crop="random_resized")  # doctest: +SKIP
    """
    return _Cars(root).load(image_size, resize, crop, views, train_images, test_images, memory_limit_gib, workers)


def dogs(
    root: str,
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
    """12,000 training and 8,580 test images of 120 breeds of dogs from ``root`` (Khosla et al., 2011).

    Arguments and errors: see `ImageListDataset.load`.

    Returns:
        Training and test split.

    Example:
        >>> data = dogs("FOLDER", image_size=224, resize=256, crop="random_resized")  # doctest: +SKIP
    """
    return _Dogs(root).load(image_size, resize, crop, views, train_images, test_images, memory_limit_gib, workers)


def aircraft(
    root: str,
    download: bool = True,
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
    """6,667 training and 3,333 test images of 100 variants of aircraft from ``root``/fgvc-aircraft-2013b (Maji et al., 2013).

    The training images are the published training and validation images. Other arguments: see `ImageListDataset.load`.

    Args:
        download: download the archive if that folder is missing or empty. A folder with files is never changed.

    Returns:
        Training and test split.

    Example:
        >>> data = aircraft("FOLDER", image_size=224, resize=256, crop="random_resized")  # doctest: +SKIP
    """
    return _Aircraft(root, download).load(image_size, resize, crop, views, train_images, test_images, memory_limit_gib, workers)


class _CUB(ImageListDataset):
    """Lists with a line for each image, its number and its path, its class from 1 on, or 1 if it is for training, else 0."""

    lists = ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    archive = Published(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "CUB_200_2011.tgz",
        "97eceeb196236b17998738112f37df78",
    )

    def __init__(self, root: str):
        super().__init__(
            "CUB-200-2011",
            Path(root).expanduser() / "CUB_200_2011",
            ("images", *self.lists),
            "https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)",
            (5_994, 5_794),
        )

    def require(self) -> None:
        if self.archive.lies_beside(self.folder):
            fetch(self.folder, self.archive, download=False)
        super().require()

    def read(self) -> tuple[Labelled, Labelled]:
        images, labels, split = (self.folder / name for name in self.lists)
        paths, classes, training = _by_number(images, str), _by_number(labels, _class), _by_number(split, _flag)
        for file, numbers in ((labels, classes.keys()), (split, training.keys())):
            if others := sorted(numbers ^ paths.keys()):
                raise _damaged(images, f"image {others[0]} is in only one of it and {file.name}")
        parts: dict[bool, Labelled] = {True: {}, False: {}}
        for number, path in paths.items():
            parts[training[number]][str(self.folder / "images" / path)] = classes[number]
        return self.listed(images.name, parts[True]), self.listed(images.name, parts[False])


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

    def class_names(self, labels: Labelled) -> tuple[str, ...]:
        """Those of devkit/cars_meta.mat, if it is there."""
        meta = self.folder / "devkit" / "cars_meta.mat"
        if not meta.is_file():
            return ()
        (names,) = _matlab(meta, "class_names")
        return tuple(map(str, names))

    def _split(self, images: str, annotations: str) -> Labelled:
        path = self.folder / annotations
        (entries,) = _matlab(path, "annotations")
        try:
            pairs = [(entry["fname"], entry["class"]) for entry in entries]
        except (IndexError, ValueError, KeyError, TypeError) as error:  # of NumPy, for what has no such fields
            raise _damaged(path, f"its annotations have no fname and class: {first_line(error)}") from error
        return self.listed(annotations, _labelled(path, self.folder / images, pairs))


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
        if len(files) != len(classes):
            raise _damaged(self.folder / name, f"{len(files)} files and {len(classes)} labels")
        return self.listed(name, _labelled(self.folder / name, self.folder / "Images", zip(files, classes, strict=True)))


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
        fetch(self.folder, Published(self.url, self.url.rpartition("/")[2], self.md5), self.download)
        super().require()

    def read(self) -> tuple[Labelled, Labelled]:
        train, test = (self._split(name) for name in self.lists)
        return train, test

    def class_names(self, labels: Labelled) -> tuple[str, ...]:
        return tuple(self._variants())

    def _variants(self) -> dict[str, int]:
        """The number of every variant."""
        path = self.folder / "data" / "variants.txt"
        variants: dict[str, int] = {}
        for line, variant in _lines(path):
            if variant in variants:
                raise _damaged(path, f"line {line}: {variant} occurs twice")
            variants[variant] = len(variants)
        return variants

    def _split(self, name: str) -> Labelled:
        path, images, variants = self.folder / name, self.folder / "data" / "images", self._variants()
        labels: Labelled = {}
        for line, text in _lines(path):
            number, variant = _two_fields(text)
            image = str(images / f"{number}.jpg")
            if variant not in variants:
                raise _damaged(path, f"line {line}: {variant or text} is not one of the variants in variants.txt")
            if image in labels:
                raise _damaged(path, f"line {line}: {number} occurs twice")
            labels[image] = variants[variant]
        return self.listed(name, labels)


def _lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines with their numbers from 1 on, stripped; a byte order mark and Windows line ends are removed."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _damaged(path, f"byte {error.start} is not UTF-8") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _by_number(path: Path, value: Callable[[str], Value]) -> dict[int, Value]:
    """The second field of every line by the first, the number of an image."""
    found: dict[int, Value] = {}
    for line, text in _lines(path):
        number, field = _two_fields(text)
        try:
            if not field:
                raise ValueError(f"{text} is not a number and a value")
            if int(number) in found:
                raise ValueError(f"image {number} occurs twice")
            found[int(number)] = value(field)
        except ValueError as error:
            raise _damaged(path, f"line {line}: {first_line(error)}") from error
    if not found:
        raise _damaged(path, "no lines")
    return found


def _two_fields(text: str) -> tuple[str, str]:
    """The text before and after the first white space; the second part is empty if there is none."""
    first, *rest = text.split(maxsplit=1)
    return first, "".join(rest)


def _class(number: object) -> int:
    """The number from 0 on of a class that is counted from 1 on, as text or as Matlab's floating point number."""
    try:
        value = float(number.strip() if isinstance(number, str) else np.asarray(number).item())
    except (TypeError, ValueError):
        value = 0.0
    if value < 1 or not value.is_integer():
        raise ValueError(f"class {number}, not a whole number of at least 1")
    return int(value) - 1


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text}, neither 0 nor 1")
    return text == "1"


def _labelled(path: Path, folder: Path, pairs: Iterable[tuple[object, object]]) -> Labelled:
    """The number of its class for every image of a Matlab list of names and classes."""
    labels: Labelled = {}
    for entry, (name, number) in enumerate(pairs, 1):
        image = str(folder / str(name).strip())
        try:
            if image in labels:
                raise ValueError(f"{name} occurs twice")
            labels[image] = _class(number)
        except ValueError as error:
            raise _damaged(path, f"entry {entry}: {first_line(error)}") from error
    return labels


def _matlab(path: Path, *names: str) -> list[np.ndarray]:
    """The vectors of these names."""
    from scipy.io import loadmat

    file = BytesIO(path.read_bytes())
    try:
        content = loadmat(file, squeeze_me=True)
        return [np.atleast_1d(content[name]) for name in names]
    except Exception as error:  # a damaged file may raise anything
        raise _damaged(path, f"{type(error).__name__}: {first_line(error)}") from error


def _damaged(path: Path, fault: str) -> UserError:
    return UserError(f"{path} is damaged ({fault}): restore it")
