"""Image files of any size and mode as one array of images."""

import math
import multiprocessing
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from spectral_repro.data.cuts import Cut, centre
from spectral_repro.errors import UserError, first_line

MODES = {1: "L", 3: "RGB"}
READ_AT_ONCE = 32
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # of TIFF
START_METHOD = multiprocessing.get_all_start_methods()[0]  # of the platform: joblib sets one that DataLoader cannot use


@dataclass(frozen=True)
class ImageFiles:
    """Images (N, C, S, S) uint8 that are decoded on demand; ``shape`` is that of the decoded images.

    Attributes:
        paths: of N files.
        channels: C, 1 (grey) or 3 (red, green, blue).
        size: S, in pixels.
        workers: processes that decode; 0: this one.
        cut: makes an image S x S pixels.
        evaluation_cut: the same for images that are not trained on; None: ``cut``.
    """

    paths: Sequence[str]
    channels: int
    size: int
    workers: int
    cut: Cut = centre
    evaluation_cut: Cut | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), self.channels, self.size, self.size

    def __getitem__(self, chosen: Tensor) -> "ImageFiles":
        return replace(self, paths=[self.paths[number] for number in chosen.tolist()])

    def for_evaluation(self) -> "ImageFiles":
        """The same files, cut as in an evaluation."""
        return replace(self, cut=self.evaluation_cut or self.cut)

    def within(self, limit_gib: float) -> "Tensor | ImageFiles":
        """All images if they take at most ``limit_gib`` GiB; otherwise the files, after a check of their headers.

        Raises:
            UserError: for the first file that is not an image or, of those that are read, cannot be decoded.
        """
        if math.prod(self.shape) <= limit_gib * 2**30:
            return self.read()
        self.check()
        return self

    def check(self) -> None:
        """Reads the header of every file.

        Raises:
            UserError: for the first file that is not an image.
        """
        for path in self.paths:
            with opened(path):
                pass

    def read(self) -> Tensor:
        """All images.

        Raises:
            UserError: for the first file that cannot be decoded.
        """
        images = torch.empty(self.shape, dtype=torch.uint8)
        parts = images.split(READ_AT_ONCE)
        for part, decoded in zip(parts, self.stream(torch.arange(len(images)).split(READ_AT_ONCE)), strict=True):
            part.copy_(decoded)
        return images

    def stream(self, numbers: Sequence[Tensor], choices: Sequence[Tensor] | None = None) -> Iterator[Tensor]:
        """`ImageReader.stream` of a reader, and workers, that live as long as the iterator."""
        yield from ImageReader(self, keep_workers=False).stream(numbers, choices)

    def reader(self, pin_memory: bool = False) -> "ImageReader":
        """Keeps its workers from one stream to the next."""
        return ImageReader(self, pin_memory)

    def __getitems__(self, batch: list[tuple[int, int]]) -> Tensor | UserError:
        """A batch, or the error as a value: if a worker raises an error, torch adds a traceback to its message."""
        try:
            return torch.stack(
                [decode(self.paths[number], self.channels, self.size, self.cut, choice) for number, choice in batch]
            )
        except UserError as error:
            return error


class ImageReader:
    """Decodes batches of files. Its workers start with the first batch and live as long as the reader, or until an error.

    Args:
        files: the images, and how many workers decode them.
        pin_memory: put the batches into pinned memory, from which a GPU can copy them while it computes.
        keep_workers: False: they live as long as a stream.
    """

    def __init__(self, files: ImageFiles, pin_memory: bool = False, keep_workers: bool = True):
        self.files, self.pin_memory, self.keep_workers = files, pin_memory, keep_workers
        self._idle: list[tuple[_Asked, DataLoader[Any]]] = []  # one stream is read from each loader at a time

    def stream(self, numbers: Sequence[Tensor], choices: Sequence[Tensor] | None = None) -> Iterator[Tensor]:
        """The images with these numbers (B,), one batch for each tensor of them.

        Args:
            numbers: of the images.
            choices: random numbers for the cut of every image, shaped like ``numbers``; None: 0.

        Raises:
            UserError: for the first file that cannot be decoded.
        """
        choices = choices or [torch.zeros_like(batch) for batch in numbers]
        asked, loader = self._idle.pop() if self._idle else self._loader(len(numbers))
        batches = zip(numbers, choices, strict=True)
        asked.batches = (list(zip(batch.tolist(), choice.tolist(), strict=True)) for batch, choice in batches)
        try:
            for images in loader:
                if isinstance(images, UserError):
                    raise images
                yield images
        except Exception:
            del loader  # and with it the workers, although the traceback keeps this frame
            raise
        except GeneratorExit:
            pass  # nobody wants the rest
        if self.keep_workers:
            self._idle.append((asked, loader))

    def _loader(self, batches: int) -> "tuple[_Asked, DataLoader[Any]]":
        most = len(self.files.paths) if self.keep_workers else batches
        asked, workers = _Asked(), min(self.files.workers, most)
        loader: DataLoader[Any] = DataLoader(
            self.files,  # type: ignore[arg-type] # torch asks for __getitems__ alone
            batch_sampler=asked,
            collate_fn=_as_it_is,
            num_workers=workers,
            multiprocessing_context=START_METHOD if workers else None,
            worker_init_fn=own_process_group,
            generator=torch.Generator(),  # of the workers' seeds: torch's global one must not depend on where images are
            pin_memory=self.pin_memory,
            persistent_workers=self.keep_workers and workers > 0,
        )
        return asked, loader


class _Asked:
    """What a loader reads next: batches of (number, choice)."""

    batches: Iterable[list[tuple[int, int]]] = ()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)


def decode(path: str, channels: int, size: int, cut: Cut = centre, choice: int = 0) -> Tensor:
    """One image (C, S, S) uint8, by default its shorter side resized to S (bilinear, antialiased), its centre cropped.

    For orientation, transparency and depth see `as_channels`. Only the first of several frames is used.

    Raises:
        UserError: for a file that is not an image, is damaged, or has values without a known range.
    """
    with opened(path) as image:
        return cut(as_tensor(image, channels), size, choice)


def as_tensor(image: Image.Image, channels: int) -> Tensor:
    """The pixels (C, H, W) uint8 of `as_channels`; a tensor is resized in a third of the time of a picture."""
    pixels = torch.from_numpy(np.array(as_channels(image, channels)))
    return pixels.view(*pixels.shape[:2], channels).permute(2, 0, 1)


def as_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image with 8 bits for each of 1 (grey) or 3 channels (red, green, blue).

    The orientation tag (EXIF) is applied and transparent pixels become white. If there are more than 8 bits per channel, the
    upper 8 are used.

    Raises:
        ValueError: for values without a known range, such as those of floating point.
    """
    image.load()
    with suppress(Exception):  # a damaged tag may raise anything, and is ignored
        ImageOps.exif_transpose(image, in_place=True)
    if _depth(image) > 8:
        image = _upper_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(MODES[channels])


def _depth(image: Image.Image) -> int:
    """Bits per channel, which Pillow's mode does not tell: a TIFF file of 12 bits is I;16, a PGM file of 16 bits is I.

    Raises:
        ValueError: for a mode whose black and white are not known.
    """
    if image.mode.startswith("I;16"):
        return getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
    if image.mode == "I" and image.format == "PPM":
        return 16
    if image.mode in ("I", "F"):
        raise ValueError("its channels have neither 8 nor 16 bits, so its values of black and white are unknown")
    return 8


def _upper_eight_bits(image: Image.Image) -> Image.Image:
    """Reduces a grey image to 8 bits; its transparent value becomes white."""
    values, depth = np.asarray(image), _depth(image)
    pixels = (values >> (depth - 8)).clip(0, 255).astype(np.uint8)
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:  # which Pillow regards in images of 8 bits only
        pixels = 255 - pixels
    if "transparency" in image.info:
        pixels[values == image.info["transparency"]] = 255
    return Image.fromarray(pixels)


@contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """An opened image file; only its header has been read.

    Raises:
        UserError: naming the file, if it is not an image, and for any error in the block.
    """
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError("a pipe, not a file")  # of which the first byte may never come
        with Image.open(path) as image:
            _depth(image)
            yield image
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{path} cannot be read as an image ({first_line(error)}): restore it, or remove it") from error


def _as_it_is(images: Any) -> Any:
    return images


def own_process_group(worker: int) -> None:
    """Gives a worker a process group of its own. Ctrl-C signals the group of a run, which needs its workers for a last step."""
    os.setpgrp()
