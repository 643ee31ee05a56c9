"""Validation images: a fixed random part of the training images."""

from functools import partial

import pytest
import torch

from spectral_repro.data.cuts import centre, random_place
from spectral_repro.data.image_files import ImageFiles
from spectral_repro.data.images import ImageData, Split, hold_out
from spectral_repro.errors import UserError

TOTAL = 200


def data(total: int = TOTAL) -> ImageData:
    """Images and labels that are the number of the image."""
    numbers = torch.arange(total)
    train = Split(numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2), numbers)
    return ImageData(train, Split(train.images[:7], numbers[:7]), ("a note",))


def numbers(split: Split) -> list[int]:
    assert torch.equal(split.images[:, 0, 0, 0].long(), split.labels)
    return split.labels.tolist()


def test_without_a_size_nothing_is_held_out():
    whole = data()
    assert hold_out(whole, None, None) is whole and whole.validation is None and whole.chosen_by == "test"


def test_every_training_image_is_in_one_of_the_two_splits():
    held = hold_out(data(), 30, None)
    assert len(held.validation.labels) == 30 and held.chosen_by == "validation"
    assert sorted(numbers(held.train) + numbers(held.validation)) == list(range(TOTAL))
    assert numbers(held.train) == sorted(numbers(held.train))
    assert held.notes == ("a note",) and numbers(held.test) == list(range(7))


def test_the_choice_is_random_and_always_the_same():
    torch.manual_seed(1)
    first = numbers(hold_out(data(), 30, None).validation)
    torch.manual_seed(2)
    assert numbers(hold_out(data(), 30, None).validation) == first
    assert numbers(hold_out(data(), 10, None).validation) == first[:10], "a smaller one is part of a larger one"
    assert 2 < sum(number < TOTAL / 2 for number in first) < 28  # of 15 on average, with a standard deviation of 2.5


@pytest.mark.parametrize(("fraction", "count"), [(0.25, 50), (0.501, 100), (0.004, 1)])
def test_a_fraction_is_rounded(fraction: float, count: int):
    assert numbers(hold_out(data(), None, fraction).validation) == numbers(hold_out(data(), count, None).validation)


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (200, None, "dataset.validation_images=200: takes 200 of the 200 training images; both splits need images"),
        (500, None, "dataset.validation_images=500: takes 500 of the 200"),
        (None, 0.001, "dataset.validation_fraction=0.001: takes 0 of the 200"),
        (None, 0.999, "dataset.validation_fraction=0.999: takes 200 of the 200"),
    ],
)
def test_both_splits_need_images(count: int | None, fraction: float | None, message: str):
    with pytest.raises(UserError, match=message):
        hold_out(data(), count, fraction)


def test_files_are_cut_as_in_an_evaluation():
    paths = [f"{number}.jpg" for number in range(20)]
    plain, anywhere = partial(centre, resize=10), partial(random_place, resize=10)
    files = ImageFiles(paths, 3, 8, 0, anywhere, plain)
    split = Split(files, torch.arange(20))
    held = hold_out(ImageData(split, split), 5, None)
    assert held.train.images.cut is anywhere and held.validation.images.cut is plain
    assert sorted([*held.train.images.paths, *held.validation.images.paths]) == sorted(paths)
    assert held.validation.images.paths == [paths[number] for number in held.validation.labels.tolist()]
