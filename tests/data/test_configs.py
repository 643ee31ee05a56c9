"""The files of conf/dataset, built as the trainer builds them."""

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.groups import options
from spectral_repro.data import Batches, ImageData
from spectral_repro.errors import UserError


def config(name: str, **changes) -> DictConfig:
    """The data set's part of a whole configuration."""
    cfg = compose([f"dataset={name}"])
    return OmegaConf.merge(cfg, {"dataset": changes}).dataset


def check(cfg: DictConfig, data: ImageData) -> None:
    for split in (data.train, data.test):
        assert split.images.shape[1:] == (cfg.channels, cfg.image_size, cfg.image_size)
        assert split.labels.max() < cfg.num_classes
    assert len(cfg.mean) == len(cfg.std) == cfg.channels
    batches = Batches(data.train, cfg.batch_size, cfg.mean, cfg.std, crop_padding=cfg.crop_padding, flip=cfg.flip)
    images, _ = next(batches.epoch(0))
    assert images.isfinite().all()


def measured(data: ImageData) -> tuple[list[float], list[float]]:
    pixels = data.train.images.double() / 255
    return pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3), correction=0).tolist()


def test_digits():
    cfg = config("digits", train_images=None)
    data = instantiate(cfg.load)
    check(cfg, data)
    mean, std = measured(data)
    assert list(cfg.mean) == [round(value, 4) for value in mean]
    assert list(cfg.std) == [round(value, 4) for value in std]
    assert data.train.labels.max() == cfg.num_classes - 1


def test_random():
    cfg = config("random", num_classes=4, test_images=10)
    data = instantiate(cfg.load)
    check(cfg, data)
    assert (len(data.train.labels), len(data.test.labels)) == (2048, 10)
    assert data.train.labels.max() == 3
    mean, std = measured(data)
    assert mean == pytest.approx(cfg.mean, abs=1e-3)
    assert std == pytest.approx(cfg.std, abs=1e-3)


def test_cifar(cifar):
    cifar.write()
    cfg = config(cifar.name, root=str(cifar.root), check_integrity=False, train_images=5)
    data = instantiate(cfg.load)
    check(cfg, data)
    assert (len(data.train.labels), len(data.test.labels)) == (5, 6)
    assert cfg.num_classes == cifar.num_classes


def test_cifar_download_is_passed_on(cifar):
    cfg = config(cifar.name, root=str(cifar.root), download=False)
    with pytest.raises(Exception, match=r"dataset\.download=false") as caught:
        instantiate(cfg.load)
    assert isinstance(caught.value.__cause__ or caught.value, UserError)


def test_svhn(svhn):
    svhn.write()
    extra = len(svhn.train_files) > 1
    cfg = config("svhn", root=str(svhn.root), check_integrity=False, extra=extra, train_images=5)
    data = instantiate(cfg.load)
    check(cfg, data)
    assert (len(data.train.labels), len(data.test.labels)) == (5, 6)
    assert data.notes[0].count("_32x32.mat") == len(svhn.files)
    with pytest.raises(Exception, match=r"dataset\.download=false"):
        instantiate(config("svhn", root=str(svhn.root / "elsewhere"), download=False).load)


def test_image_folder(tmp_path):
    for split, name in ((split, name) for split in ("train", "test") for name in "ab"):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("RGB", (20, 30), "red").save(tmp_path / split / name / "red.jpg")
    cfg = config("image_folder", root=str(tmp_path), num_classes=2, train_images=1, workers=0)
    data = instantiate(cfg.load)
    check(cfg, data)
    assert (len(data.train.labels), len(data.test.labels)) == (1, 2)
    streamed = instantiate(config("image_folder", root=str(tmp_path), num_classes=2, workers=3, memory_limit_gib=0).load)
    assert streamed.train.images.workers == 3


@pytest.mark.parametrize("name", options("dataset"))
def test_named_as_its_file(name):
    assert config(name).name == name
