from itertools import combinations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as transforms

from spectral_repro.data import Batches, Split

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def random_split(count: int, channels: int = 3, size: int = 5) -> Split:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(10, (count,), generator=generator))


def coordinates(count: int, size: int) -> Split:
    """Every pixel holds the number of its image, its row and its column, all from 1, so that black is the frame alone."""
    image, row, column = torch.meshgrid(*(torch.arange(1, n + 1) for n in (count, size, size)), indexing="ij")
    return Split(torch.stack([image, row, column], 1).to(torch.uint8), torch.arange(count) * 7)


def plain(split: Split, batch_size: int, **options) -> Batches:
    """Batches whose values are those of the pixels, 0..255, but for round-off."""
    return Batches(split, batch_size, (0.0,) * split.images.shape[1], (1 / 255,) * split.images.shape[1], **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": Split(torch.rand(4, 3, 5, 5), torch.arange(4))}, r"uint8 \(N, C, H, W\), not float32 \(4, 3, 5, 5\)"),
        ({"split": Split(random_split(4).images, torch.zeros(3).long())}, "4 images have 3 labels"),
        ({"split": Split(random_split(4).images[..., :4], torch.arange(4))}, "the images must be square, not 5 x 4"),
        ({"batch_size": 0}, "batch_size=0: must be a whole number >= 1"),
        ({"mean": (0.5,)}, "must be 3 numbers each, one per channel, std > 0"),
        ({"std": (0.5, 0.5, 0.0)}, "must be 3 numbers each, one per channel, std > 0"),
    ],
)
def test_errors_for_arguments_of_batches(change, message):
    with pytest.raises(ValueError, match=message):
        Batches(**{"split": random_split(4), "batch_size": 2, "mean": MEAN, "std": STD} | change)


def gather(batches: Batches, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches.epoch(epoch), strict=True)
    return torch.cat(images), torch.cat(labels)


def draws(image: torch.Tensor, padding: int) -> tuple[int, int, int, bool]:
    """Number, top, left and mirroring that made an image of `coordinates`, read off its values."""
    number, rows, columns = image.round().int()
    down, across = rows.amax(1), columns.amax(0)
    bright = across[across > 0]
    mirrored = bool(bright[0] > bright[-1])
    if mirrored:
        across = across.flip(0)
    top, left = (int(line.max() - 1 - line.argmax()) + padding for line in (down, across))
    return int(number.max()) - 1, top, left, mirrored


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (2, False), (0, True), (2, True)])
def test_same_as_torchvision_image_by_image(padding, flip):
    size = 6
    split = coordinates(200, size)
    augmentation = {"crop_padding": padding, "flip": flip, "seed": 3}
    raw, normalised = plain(split, 64, **augmentation), Batches(split, 64, MEAN, STD, **augmentation)
    epochs = [(*gather(raw, epoch), *gather(normalised, epoch)) for epoch in range(3)]

    seen = set()
    for values, raw_label, output, label in (image for epoch in epochs for image in zip(*epoch, strict=True)):
        number, top, left, mirrored = draws(values, padding)
        seen.add((top, left, mirrored))
        expected = transforms.crop(transforms.pad(split.images[number], padding), top, left, size, size)
        expected = transforms.hflip(expected) if mirrored else expected
        torch.testing.assert_close(values, expected.float(), rtol=0, atol=1e-3)
        expected = transforms.normalize(transforms.convert_image_dtype(expected), MEAN, STD)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
        assert label == raw_label == split.labels[number]
    places = range(2 * padding + 1)
    assert seen == {(top, left, mirrored) for top in places for left in places for mirrored in (False, flip)}


def test_crops_and_mirrorings_are_equally_likely():
    padding, count = 1, 250
    batches = plain(coordinates(count, 3), 50, crop_padding=padding, flip=True)
    seen = [draws(image, padding)[1:] for epoch in range(8) for image in gather(batches, epoch)[0]]
    expected = len(seen) / 18
    chi_squared = sum((seen.count(choice) - expected) ** 2 / expected for choice in set(seen))
    assert len(set(seen)) == 18
    assert chi_squared < 40.8  # 17 degrees of freedom, p = 0.001


def test_alternating_mirroring_shows_both_sides_in_any_two_epochs():
    count = 200
    batches = plain(coordinates(count, 3), 64, flip="alternating", seed=4)
    sides = torch.empty(4, count, dtype=torch.bool)
    for epoch in range(4):
        for image in gather(batches, epoch)[0]:
            number, *_, mirrored = draws(image, 0)
            sides[epoch, number] = mirrored
    assert (sides[0] != sides[1]).all() and torch.equal(sides[0], sides[2]) and torch.equal(sides[1], sides[3])
    assert 60 < sides[0].sum() < 140, "100 expected, standard deviation 7"
    other = plain(coordinates(count, 3), 64, flip="alternating", seed=5)
    assert not torch.equal(other.mirrored_first, batches.mirrored_first)


def test_frame_is_black_before_normalisation():
    split = Split(torch.full((64, 3, 4, 4), 255, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
    images, _ = gather(Batches(split, 64, MEAN, STD, crop_padding=4), epoch=0)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        values = images[:, channel].unique()
        torch.testing.assert_close(values, torch.tensor([-mean / std, (1 - mean) / std]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation(channels):
    split = random_split(40, channels)
    images, labels = gather(Batches(split, 16, MEAN[:channels], STD[:channels], shuffle=False), epoch=0)
    mean, std = (torch.tensor(values[:channels], dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(images.double(), (split.images.double() / 255 - mean) / std, rtol=0, atol=1e-6)
    assert torch.equal(labels, split.labels)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64


def test_every_image_exactly_once_per_epoch():
    batches = plain(coordinates(100, 4), 32)
    orders = []
    for epoch in range(3):
        images, labels = gather(batches, epoch)
        numbers = images[:, 0, 0, 0].round().long() - 1
        assert torch.equal(labels, numbers * 7)
        assert sorted(numbers.tolist()) == list(range(100))
        orders.append(tuple(numbers.tolist()))
    assert len({*orders, tuple(range(100))}) == 4


def test_same_seed_and_epoch_same_batches():
    split = random_split(50)

    def batches() -> Batches:
        return Batches(split, 16, MEAN, STD, seed=5, crop_padding=2, flip=True)

    used = batches()
    gather(used, 0)
    torch.manual_seed(1)
    first = gather(used, 4)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = gather(batches(), 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_seeds_and_epochs_give_unrelated_batches():
    split = coordinates(100, 4)
    epochs = [*range(6), 2**40]
    orders = [gather(plain(split, 100, seed=seed), epoch)[1] for seed in range(6) for epoch in epochs]
    agreements = [int((first == second).sum()) for first, second in combinations(orders, 2)]
    assert max(agreements) < 10  # two random orders of 100 agree in 1 place on average, in 10 or more with probability 1e-7


@pytest.mark.parametrize("shuffle", [False, True])
def test_start_gives_the_rest_of_the_epoch(shuffle):
    batches = Batches(random_split(50), 8, MEAN, STD, crop_padding=1, flip=True, shuffle=shuffle)
    whole = list(batches.epoch(2))
    for start in range(len(batches) + 2):
        rest = list(batches.epoch(2, start))
        assert len(rest) == max(0, len(batches) - start)
        for (images, labels), (expected_images, expected_labels) in zip(rest, whole[start:], strict=True):
            assert torch.equal(images, expected_images)
            assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (1, 1, [1])])
def test_sizes_of_batches(count, batch_size, sizes):
    batches = Batches(random_split(count), batch_size, MEAN, STD)
    assert len(batches) == len(sizes)
    assert [(tuple(images.shape), len(labels)) for images, labels in batches.epoch(0)] == [((n, 3, 5, 5), n) for n in sizes]


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4]), (8, [4, 4]), (3, [])])
def test_the_last_smaller_batch_may_be_left_out(count, sizes):
    whole, batches = (plain(random_split(count), 4, seed=1, drop_last=drop_last) for drop_last in (False, True))
    assert len(batches) == len(sizes) and batches.images == sum(sizes) and whole.images == count
    assert [len(labels) for _, labels in batches.epoch(2)] == sizes
    for (images, labels), (expected, expected_labels) in zip(batches.epoch(2), whole.epoch(2), strict=False):
        assert torch.equal(images, expected) and torch.equal(labels, expected_labels)
    if sizes:
        assert [len(labels) for _, labels in batches.epoch(0, start=1)] == sizes[1:]


def test_the_first_images_are_those_of_the_first_epoch():
    batches = plain(random_split(23), 4, seed=5, flip=True, crop_padding=1)
    images, _ = gather(batches, epoch=0)
    for number in (1, 4, 10, 23, 100):
        assert torch.equal(batches.first(number), images[:number])


def test_memory_formats_hold_the_same():
    split = random_split(20)
    (last, _), *_ = Batches(split, 20, MEAN, STD, crop_padding=2, flip=True).epoch(0)
    (first, _), *_ = Batches(split, 20, MEAN, STD, crop_padding=2, flip=True, channels_last=False).epoch(0)
    assert torch.equal(last, first)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    assert first.is_contiguous()


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
@pytest.mark.parametrize("padding", [2, 7])
def test_frame_that_mirrors_the_image(mode, padding):
    """As numpy's of that name, which turns back and forth where the frame is wider than the image."""
    split = random_split(150, size=5)
    images, labels = gather(plain(split, 50, crop_padding=padding, crop_fill=mode, shuffle=False), epoch=0)
    assert torch.equal(labels, split.labels)
    framed = np.pad(split.images.numpy(), [(0, 0), (0, 0), (padding, padding), (padding, padding)], mode)
    windows = np.lib.stride_tricks.sliding_window_view(framed, (5, 5), axis=(2, 3))
    found = images.round().to(torch.uint8).numpy()
    same = (windows == found[:, :, None, None]).all(axis=(1, 4, 5))
    assert same.any(axis=(1, 2)).all()
    assert len(set(same.reshape(len(same), -1).argmax(1))) > 2 * padding


def test_padding_larger_than_the_image():
    split = Split(torch.full((400, 1, 1, 1), 255, dtype=torch.uint8), torch.zeros(400, dtype=torch.int64))
    images, _ = gather(plain(split, 100, crop_padding=2), epoch=0)
    assert images.shape == (400, 1, 1, 1)
    assert 4 <= (images > 254).sum() <= 32  # the 1 place of 25 that is not frame: 16 expected, standard deviation 4


def test_the_split_is_not_changed():
    split = random_split(20)
    before = split.images.clone()
    for crop_padding in (0, 1):
        for images, labels in Batches(split, 8, MEAN, STD, crop_padding=crop_padding, shuffle=False).epoch(0):
            images.zero_()
            labels.zero_()
    assert torch.equal(split.images, before)
    assert split.labels.any()


def test_never_waits_for_the_device():
    """On the meta device there are no values, so whatever asks for one fails."""
    split = random_split(20)
    batches = Batches(split, 8, MEAN, STD, crop_padding=2, flip=True, device="meta")
    assert [images.shape for images, _ in batches.epoch(0, start=1)] == [(8, 3, 5, 5), (4, 3, 5, 5)]
    assert all(images.is_meta and labels.is_meta for images, labels in batches.epoch(0))


@pytest.mark.parametrize(("count", "views"), [(17, "plain"), (13, "mirrored")])
def test_shares_of_several_processes_make_up_the_batches_of_one(count: int, views: str):
    """17 images in batches of 8, 8 and 1, which only the last process has; 13 images twice in batches of 4, the last of 1."""
    options = {"views": views, "shuffle": views == "plain", "seed": 5}
    whole = Batches(random_split(count), 8, MEAN, STD, **options)
    shares = [Batches(random_split(count), 8, MEAN, STD, share=(part, 3), **options).epoch(2, start=1) for part in range(3)]
    for index, (images, labels) in enumerate(whole.epoch(2, start=1), start=1):
        assert whole.length(index) == len(labels)
        sizes = [len(part) * whole.views for part in torch.arange(len(labels) // whole.views).tensor_split(3)]
        parts = [next(share) for share, size in zip(shares, sorted(sizes), strict=True) if size]
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    assert all(next(share, None) is None for share in shares)
