"""How an image of any size becomes a square one.

A cut takes an image, a tensor (C, H, W) uint8 or a PIL image, the side S of the square and a number that seeds its random
choices, if any. It returns an image of the same kind. The image is resized first (bilinear, antialiased): ``resize`` is the new
shorter side, or a pair of height and width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomCrop, RandomResizedCrop
from torchvision.transforms.v2 import functional

Picture = TypeVar("Picture", Image.Image, Tensor)
Cut = Callable[[Tensor, int, int], Tensor]
Resize = int | Sequence[int]

PLACES = 5


def centre(image: Picture, size: int, choice: int = 0, resize: Resize | None = None) -> Picture:
    """The centre; ``resize`` None is S."""
    return functional.center_crop(_resized(image, resize or size), [size, size])


def corner_or_centre(image: Picture, size: int, choice: int, resize: Resize) -> Picture:
    """One of `PLACES`: for ``choice`` 0 to 3 the corners, upper before lower and left before right; for 4 the centre."""
    return functional.five_crop(_resized(image, resize), [size, size])[choice]


def random_place(image: Picture, size: int, choice: int, resize: Resize) -> Picture:
    """A square at a random place, all places equally likely."""
    image = _resized(image, resize)
    with _seeded(choice):
        return functional.crop(image, *RandomCrop.get_params(image, (size, size)))


def random_resized(image: Picture, size: int, choice: int) -> Picture:
    """A random part of the original image, resized to the square: 8 to 100 % of its area, 3 : 4 to 4 : 3 wide."""
    with _seeded(choice):
        part = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
    return functional.resized_crop(image, *part, [size, size])


def _resized(image: Picture, resize: Resize) -> Picture:
    return functional.resize(image, [resize] if isinstance(resize, int) else list(resize))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generator, from which torchvision draws, and restores it afterwards; those of CUDA do not change."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        yield
