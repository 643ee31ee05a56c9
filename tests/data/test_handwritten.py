import torch
from sklearn.datasets import load_digits

from spectral_repro.data import digits


def rows(images: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(image.flatten().tolist()) for image in images]


def test_all_of_scikit_learns_images_are_in_one_split():
    data = digits()
    assert data.train.images.shape == (1437, 1, 8, 8)
    assert data.test.images.shape == (360, 1, 8, 8)
    assert data.train.images.dtype == data.test.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    source = load_digits()
    expected = [
        (*(int(value * 255 / 16 + 0.5) for value in image.flatten()), label)
        for image, label in zip(source.images, source.target.tolist(), strict=True)
    ]
    found = [
        (*image, label)
        for split in (data.train, data.test)
        for image, label in zip(rows(split.images), split.labels.tolist(), strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_classes_are_spread_over_both_splits():
    data = digits()
    assert data.train.labels.bincount().min() > 120
    assert data.test.labels.bincount().min() > 20


def test_the_split_is_fixed():
    torch.manual_seed(1)
    first = digits(train_images=100)
    torch.manual_seed(2)
    second = digits(test_images=50)
    assert torch.equal(first.train.images, second.train.images[:0]) is False
    assert set(rows(first.train.images)) <= set(rows(second.train.images))
    assert set(rows(second.test.images)) <= set(rows(first.test.images))
    assert (len(first.train.labels), len(first.test.labels)) == (100, 360)
    assert (len(second.train.labels), len(second.test.labels)) == (1437, 50)
    assert len(first.train.labels.unique()) == 10
