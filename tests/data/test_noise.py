import pytest
import torch

from spectral_repro.data import random_images
from spectral_repro.errors import UserError


def test_noise_is_uniform_and_classes_are_balanced():
    data = random_images(num_classes=7, channels=2, image_size=9, train_images=140, test_images=70)
    assert data.train.images.shape == (140, 2, 9, 9)
    assert data.test.images.shape == (70, 2, 9, 9)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert data.train.labels.bincount().tolist() == [20] * 7
    assert data.test.labels.bincount().tolist() == [10] * 7
    assert len(data.train.images.unique()) == 256
    assert abs(data.train.images.double().mean() - 127.5) < 4 * 73.9 / (140 * 2 * 81) ** 0.5


def test_noise_is_fixed_and_the_splits_differ():
    first = random_images(10, 3, 4, 20, 20)
    torch.manual_seed(1)
    second = random_images(10, 3, 4, 30, 20)
    assert torch.equal(first.test.images, second.test.images)
    assert torch.equal(first.train.images, random_images(10, 3, 4, 20, 20).train.images)
    assert not torch.equal(first.train.images, first.test.images)


@pytest.mark.parametrize("key", ["train_images", "test_images"])
def test_noise_without_a_number_is_refused(key):
    with pytest.raises(UserError, match=rf"^dataset\.{key}=null .* give a number$"):
        random_images(10, 3, 4, **{"train_images": 10, "test_images": 10, key: None})
