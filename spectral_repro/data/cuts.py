"""How an image of any size becomes a square one.

A cut takes a PIL image, the side S of the square and a number that makes the choices, if there are any. ``resize`` comes first:
a number is what the shorter side becomes, a pair is height and width whatever they were (bilinear, antialiased).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torchvision.transforms import RandomCrop, RandomResizedCrop, functional

Cut = Callable[[Image.Image, int, int], Image.Image]
Resize = int | Sequence[int]

PLACES = 5


def centre(image: Image.Image, size: int, choice: int = 0, resize: Resize | None = None) -> Image.Image:
    """The centre; ``resize`` None is S."""
    return functional.center_crop(_resized(image, resize or size), [size, size])


def corner_or_centre(image: Image.Image, size: int, choice: int, resize: Resize) -> Image.Image:
    """One of `PLACES`: for ``choice`` 0 to 3 the corners, upper before lower and left before right; for 4 the centre."""
    return functional.five_crop(_resized(image, resize), [size, size])[choice]


def random_place(image: Image.Image, size: int, choice: int, resize: Resize) -> Image.Image:
    """A square at a random place, all alike."""
    image = _resized(image, resize)
    with _seeded(choice):
        return functional.crop(image, *RandomCrop.get_params(image, (size, size)))


def random_resized(image: Image.Image, size: int, choice: int) -> Image.Image:
    """A random part of the original image, resized to the square: 8 to 100 % of its area, 3 : 4 to 4 : 3 wide."""
    with _seeded(choice):
        part = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
    return functional.resized_crop(image, *part, [size, size])


def _resized(image: Image.Image, resize: Resize) -> Image.Image:
    return functional.resize(image, [resize] if isinstance(resize, int) else list(resize))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generator that torchvision draws from, seeded, and afterwards as it was; those of CUDA are not touched."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        yield
