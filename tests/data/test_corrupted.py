import hashlib
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from spectral_repro.data.corrupted import (
    CORRUPTIONS,
    PUBLISHED,
    CorruptedImages,
    generated_corruptions,
    published_corruptions,
)
from spectral_repro.data.images import Split
from spectral_repro.errors import UserError


def write(folder: Path, count: int = 3, names: tuple[str, ...] = ("fog", "snow")) -> dict[str, np.ndarray]:
    """A small folder in the format of CIFAR-10-C."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = {name: generator.integers(256, size=(5 * count, 32, 32, 3), dtype=np.uint8) for name in names}
    arrays["labels"] = np.tile(generator.integers(10, size=count, dtype=np.uint8), 5)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return arrays


def test_one_severity_is_read(tmp_path):
    arrays = write(tmp_path / "CIFAR-10-C")
    images = published_corruptions("cifar10", tmp_path, download=False)
    for severity in (1, 4, 5):
        split = images.split("snow", severity)
        part = slice(3 * severity - 3, 3 * severity)
        np.testing.assert_array_equal(split.images.numpy(), arrays["snow"][part].transpose(0, 3, 1, 2))
        assert split.labels.tolist() == arrays["labels"][part].tolist() and split.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "fog.npy").unlink(), "fog.npy is missing"),
        (lambda folder: (folder / "fog.npy").write_bytes(b""), "fog.npy is damaged"),
        (lambda folder: (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-99]), "fog.npy is damaged"),
        (lambda folder: np.save(folder / "fog.npy", np.array([{}], dtype=object)), "fog.npy is damaged"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((15, 32, 32, 3))), "(15, 32, 32, 3) float64 for 15 labels"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((14, 32, 32, 3), np.uint8)), "for 15 labels"),
        (lambda folder: np.save(folder / "labels.npy", np.zeros(3)), "for 3 labels"),
        (lambda folder: (folder / "labels.npy").unlink(), "labels.npy is missing"),
    ],
)
def test_files_that_are_not_in_order_are_named(tmp_path, damage, named):
    write(tmp_path / "C")
    damage(tmp_path / "C")
    with pytest.raises(UserError) as error:
        CorruptedImages(tmp_path / "C").split("fog", 1)
    assert named in str(error.value) and str(tmp_path / "C") in str(error.value) and "\n" not in str(error.value)


def test_another_data_set_has_none_published(tmp_path):
    with pytest.raises(UserError, match=r"source=published: there are none of svhn.*corruptions\.source=generated"):
        published_corruptions("svhn", tmp_path, download=True)


def test_a_missing_folder_that_may_not_be_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"CIFAR-100-C is missing or empty and corruptions\.download=false.*corruptions\.root"):
        published_corruptions("cifar100", tmp_path, download=False)


@pytest.fixture
def serve(monkeypatch):
    """Puts an archive of a folder where CIFAR-10-C is downloaded from; returns the addresses that were asked for."""

    def run(folder: Path, name: str, changed: bool = False) -> list[str]:
        content, asked = io.BytesIO(), []
        with tarfile.open(fileobj=content, mode="w") as tar:
            tar.add(folder, name)
        md5 = hashlib.md5(content.getvalue() + b"!" * changed).hexdigest()
        monkeypatch.setitem(PUBLISHED, "cifar10", (*PUBLISHED["cifar10"][:2], md5))

        def retrieve(url: str, filename: Path) -> None:
            asked.append(url)
            Path(filename).write_bytes(content.getvalue())

        monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
        monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
        return asked

    return run


def test_download(tmp_path, serve):
    arrays = write(tmp_path / "served")
    asked = serve(tmp_path / "served", "CIFAR-10-C")
    for _ in range(2):
        images = published_corruptions("cifar10", tmp_path / "root", download=True)
        assert images.split("fog", 2).labels.tolist() == arrays["labels"][3:6].tolist()
    assert asked == ["https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1"]
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["CIFAR-10-C"]


@pytest.mark.parametrize(("name", "changed"), [("CIFAR-10-C", True), ("../elsewhere", False)])
def test_an_archive_that_is_another_or_leaves_its_folder_is_refused(tmp_path, serve, name, changed):
    write(tmp_path / "served")
    serve(tmp_path / "served", name, changed)
    with pytest.raises(UserError, match="could not be downloaded") as error:
        published_corruptions("cifar10", tmp_path / "root", download=True)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "root").iterdir()) and not (tmp_path / "root" / "elsewhere").exists()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="every release of Python 3.12 has the filter")
def test_an_archive_without_the_filter_of_tarfile(tmp_path, serve, monkeypatch):
    """As in Python before 3.11.4."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    write(tmp_path / "served")
    serve(tmp_path / "served", "../elsewhere")
    with pytest.raises(UserError, match="could not be downloaded"):
        published_corruptions("cifar10", tmp_path / "root", download=True)
    assert not list((tmp_path / "root").iterdir())
    serve(tmp_path / "served", "CIFAR-10-C")
    published_corruptions("cifar10", tmp_path / "root", download=True)


def photographs(count: int) -> Split:
    """Smooth images, as JPEG expects them."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear").mul(255).to(torch.uint8)
    return Split(images, torch.arange(count))


def test_all_corruptions_are_generated_and_grow(tmp_path):
    test = photographs(1)
    images = generated_corruptions("mine", test, tmp_path, workers=0)
    for name in CORRUPTIONS:
        change = [(images.split(name, severity).images.float() - test.images).abs().mean().item() for severity in (1, 5)]
        assert change[0] > 0 and (change[1] > change[0] or name in ("zoom_blur", "saturate", "elastic_transform")), name
    split = images.split("frost", 3)
    assert split.images.shape == test.images.shape and split.images.dtype == torch.uint8
    assert split.labels.tolist() == [0]


def test_an_image_without_drops_is_unchanged(tmp_path, monkeypatch):
    """The package divides 0 by 0 there and makes it black."""
    monkeypatch.setattr("numpy.random.normal", lambda size, **moments: np.zeros(size))
    test = photographs(1)
    split = generated_corruptions("mine", test, tmp_path, workers=0).split("spatter", 1)
    assert torch.equal(split.images, test.images)


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "glass_blur", "snow"])
def test_generated_images_depend_on_nothing_else(tmp_path, name):
    several, one = photographs(3), photographs(3)
    first = generated_corruptions("mine", several, tmp_path / "a", workers=0).split(name, 2)
    np.random.seed(9)
    second = generated_corruptions("mine", one, tmp_path / "b", workers=0).split(name, 2)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images[0], first.images[1])


def test_workers_generate_the_same(tmp_path):
    alone = generated_corruptions("mine", photographs(2), tmp_path / "a", workers=0).split("shot_noise", 5)
    helped = generated_corruptions("mine", photographs(2), tmp_path / "b", workers=1).split("shot_noise", 5)
    assert torch.equal(alone.images, helped.images)


def test_generated_images_are_kept_for_these_images_alone(tmp_path, monkeypatch):
    test = photographs(2)
    before = generated_corruptions("mine", test, tmp_path, workers=0).split("contrast", 1)
    monkeypatch.setattr("imagecorruptions.corrupt", None)
    again = generated_corruptions("mine", test, tmp_path, workers=0).split("contrast", 1)
    assert torch.equal(before.images, again.images)
    others = generated_corruptions("mine", Split(test.images.flip(0), test.labels), tmp_path, workers=0)
    with pytest.raises(TypeError):
        others.split("contrast", 1)
    assert not list(others.folder.glob("contrast.npy"))


def test_nothing_is_left_of_an_interrupted_generation(tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imagecorruptions.corrupt", interrupted)
    images = generated_corruptions("mine", photographs(2), tmp_path, workers=0)
    with pytest.raises(KeyboardInterrupt):
        images.split("contrast", 1)
    assert list(images.folder.iterdir()) == []


def test_a_file_of_another_process_is_neither_read_nor_written(tmp_path):
    """np.save truncates a file first, and a process that reads it through a memory map is killed by a bus error."""
    test = photographs(2)
    images = generated_corruptions("mine", test, tmp_path, workers=0)
    images.folder.mkdir()
    np.save(images.folder / "labels.npy", np.zeros(3))
    before = (images.folder / "labels.npy").stat()
    assert images.split("contrast", 1).labels.tolist() == test.labels.tolist()
    assert (images.folder / "labels.npy").stat() == before


@pytest.mark.parametrize(("shape", "named"), [((2, 1, 32, 32), "have 1 and 32 x 32"), ((2, 3, 31, 31), "have 3 and 31 x 31")])
def test_images_that_the_package_does_not_take(tmp_path, shape, named):
    with pytest.raises(UserError, match=named):
        generated_corruptions("mine", Split(torch.zeros(shape, dtype=torch.uint8), torch.arange(2)), tmp_path, workers=0)


def test_the_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(UserError, match=r"imagecorruptions-imaug is not installed; pip install 'spectral-repro\[robust\]'"):
        generated_corruptions("mine", photographs(2), tmp_path, workers=0)
