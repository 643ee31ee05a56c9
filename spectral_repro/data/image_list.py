"""Base of data sets of published photographs: lists of files, and large images that are cut again in every epoch."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from spectral_repro.data.images import ImageData, Split, chosen_images
from spectral_repro.errors import UserError

Labelled = dict[str, int]
Crop = Literal["centre", "random", "random_resized"]
Views = Literal["plain", "mirrored", "ten_crop"]


@dataclass
class ImageListDataset(ABC):
    """A data set of photographs in its published files.

    Attributes:
        name: for messages and notes.
        folder: where the files lie.
        parts: files and folders that must be there.
        source: where they come from.
        sizes: the published numbers of training and test images.

    Example:
        >>> class Flowers(ImageListDataset):
        ...     def read(self):
        ...         return {"roses/1.jpg": 0}, {"tulips/1.jpg": 1}
        >>> flowers = Flowers("Flowers", Path("flowers"), ("roses", "tulips"), "https://example.org", sizes=(1, 1))
        >>> flowers.class_names({"roses/1.jpg": 0, "tulips/1.jpg": 1})
        ('roses', 'tulips')
    """

    name: str
    folder: Path
    parts: tuple[str, ...]
    source: str
    sizes: tuple[int, int]

    @abstractmethod
    def read(self) -> tuple[Labelled, Labelled]:
        """The number of the class of every training and test image, by its path; OSError, UserError for damaged lists."""

    def class_names(self, labels: Labelled) -> tuple[str, ...]:
        """The names of the classes by number, by default those of the folders that their images lie in."""
        folders = {number: Path(path).parent.name for path, number in labels.items()}
        return tuple(folders.get(number, str(number)) for number in range(max(folders) + 1))

    def load(
        self,
        image_size: int,
        resize: int | Sequence[int],
        crop: Crop,
        views: Views = "plain",
        train_images: int | None = None,
        test_images: int | None = None,
        memory_limit_gib: float = 4,
        workers: int = 2,
    ) -> ImageData:
        """Images (3, S, S).

        Args:
            image_size: S.
            resize: the shorter side before an image is cut, or its height and width.
            crop: what is cut from a training image: the centre, a place of it at random, or a random part of the original,
                resized (see ``spectral_repro.data.cuts``). From a test image it is the centre.
            views: of the test images in `Batches`; "ten_crop" cuts corners too.
            train_images, test_images: size of a fixed random subset; None: all.
            memory_limit_gib: a split without random cuts is held in memory up to this size.
            workers: processes that decode; 0: this one.

        Raises:
            UserError: in one line, for files that are missing, damaged lists, and images that cannot be decoded.
        """
        from spectral_repro.data import cuts
        from spectral_repro.data.image_files import ImageFiles

        resize = resize if isinstance(resize, int) else tuple(resize)
        if (smallest := resize if isinstance(resize, int) else min(resize)) < image_size:
            raise UserError(f"dataset.resize={smallest}: must be at least dataset.image_size={image_size}")
        centre, anywhere, corner = (
            partial(cut, resize=resize) for cut in (cuts.centre, cuts.random_place, cuts.corner_or_centre)
        )
        train_cuts: dict[str, cuts.Cut] = {"centre": centre, "random": anywhere, "random_resized": cuts.random_resized}
        test_cut = corner if views == "ten_crop" else centre

        def split(labels: Labelled, cut: cuts.Cut, count: int | None) -> Split:
            files = ImageFiles(list(labels), 3, image_size, workers, cut, test_cut)
            chosen = chosen_images(len(labels), count)
            always_alike = cut is centre and test_cut is centre  # validation images are cut like test images
            images = files[chosen].within(memory_limit_gib) if always_alike else files[chosen]
            return Split(images, torch.tensor(list(labels.values()))[chosen])

        train, test = self._lists()
        counts = "{} training and {} test images, not {} and {}".format(len(train), len(test), *self.sizes)
        notes = (f"{self.name} holds {counts}",) if (len(train), len(test)) != self.sizes else ()
        names = self.class_names(train | test)
        return ImageData(split(train, train_cuts[crop], train_images), split(test, test_cut, test_images), notes, names)

    def _lists(self) -> tuple[Labelled, Labelled]:
        try:
            self.require()
            return self.read()
        except OSError as error:
            raise UserError(f"{self.folder} cannot be read ({error}): check dataset.root and its permissions") from error

    def require(self) -> None:
        """Makes sure that all parts are there.

        Raises:
            UserError: for the first one that is missing.
        """
        for part in self.parts:
            if not (self.folder / part).exists():
                raise UserError(
                    f"{self.folder / part} is missing: get {self.name} from {self.source}, unpack it so that {self.folder} "
                    f"holds {', '.join(self.parts)}, or set dataset.root"
                )

    def listed(self, source: str, labels: Labelled) -> Labelled:
        """The labels, after a check that they are classes from 0 on and that the files exist; ``source`` is their list.

        Raises:
            UserError: for an empty list, a label below 0 and a file that is missing.
        """
        if not labels or min(labels.values()) < 0:
            raise UserError(f"{self.folder / source} is damaged (no images, or a class below 1): restore it")
        for path in labels:
            if not os.path.exists(path):
                raise UserError(f"{path} is missing, and {self.folder / source} lists it: restore it from {self.source}")
        return labels
