"""Crops of images, and the random numbers that choose them."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from spectral_repro.data.cuts import centre, corner_or_centre, random_place, random_resized

PIXELS = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.tobytes() == second.tobytes()


def test_centre_of_the_resized_image():
    expected = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16)])(IMAGE)
    assert same(centre(IMAGE, 16, 5, resize=20), expected)
    assert same(centre(IMAGE, 16), transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16)])(IMAGE))
    assert same(centre(IMAGE, 16, resize=[20, 18]), transforms.CenterCrop(16)(IMAGE.resize((18, 20), Image.BILINEAR)))


def test_five_places_are_those_of_torchvision():
    expected = transforms.FiveCrop(16)(transforms.Resize(20)(IMAGE))
    assert all(same(corner_or_centre(IMAGE, 16, place, resize=20), crop) for place, crop in enumerate(expected))


def test_random_parts_are_those_of_torchvision():
    found, expected = [], []
    for choice in range(20):
        torch.manual_seed(choice)
        expected.append(transforms.RandomResizedCrop(16)(IMAGE))
        state = torch.get_rng_state()
        found.append(random_resized(IMAGE, 16, choice))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(map(same, found, expected))
    assert len({image.tobytes() for image in found}) == 20


def test_random_places_are_all_alike():
    row, column = np.meshgrid(np.arange(4), np.arange(6), indexing="ij")
    image = Image.fromarray(np.stack([row, column, row], -1).astype(np.uint8))
    state = torch.get_rng_state()
    corners = [random_place(image, 3, choice, resize=[4, 6]).getpixel((0, 0))[:2] for choice in range(800)]
    assert torch.equal(torch.get_rng_state(), state)
    counts = Counter(corners)
    assert counts.keys() == {(top, left) for top in range(2) for left in range(4)}
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 24.3  # 7 degrees of freedom, p = 0.001


@pytest.mark.parametrize("choice", [0, 2**63 - 2])
def test_the_choice_alone_decides(choice: int):
    first = [random_place(IMAGE, 16, choice, resize=20), random_resized(IMAGE, 16, choice)]
    torch.rand(3)
    second = [random_place(IMAGE, 16, choice, resize=20), random_resized(IMAGE, 16, choice)]
    assert all(map(same, first, second))


@pytest.mark.parametrize(
    "cut", [centre, partial(corner_or_centre, resize=20), partial(random_place, resize=20), random_resized]
)
def test_a_tensor_is_cut_as_a_picture_is(cut):
    found = cut(torch.from_numpy(PIXELS).permute(2, 0, 1), 16, 3)
    expected = torch.from_numpy(np.array(cut(IMAGE, 16, 3))).permute(2, 0, 1)
    torch.testing.assert_close(found.int(), expected.int(), rtol=0, atol=1)
