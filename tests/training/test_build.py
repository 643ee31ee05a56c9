"""Which parameters are trained, and how fast."""

import re
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from spectral_repro.configuration.compose import compose
from spectral_repro.data import ImageData, Split
from spectral_repro.errors import UserError
from spectral_repro.training.build import (
    build_batches,
    build_model,
    build_optimizer,
    check_images_fit,
    initialise,
    load_images,
)


def built(*overrides: str):
    config = compose(["scale=smoke", "finetune=default", *overrides])
    model = build_model(config)
    return model, build_optimizer(config, model)


def names(model, parameters) -> set[str]:
    ids = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in ids}


def test_the_classifier_has_a_learning_rate_of_its_own():
    model, optimizer = built("finetune.classifier_factor=20", "optimizer.lr=0.01")
    features, classifier = optimizer.param_groups
    assert (features["lr"], classifier["lr"]) == (0.01, pytest.approx(0.2))
    assert names(model, classifier["params"]) == {"classifier.weight", "classifier.bias"}
    assert names(model, features["params"]) == dict(model.named_parameters()).keys() - {"classifier.weight", "classifier.bias"}


def test_frozen_parts_are_not_trained():
    model, optimizer = built("finetune.frozen=[stem,stages]")
    (classifier,) = optimizer.param_groups
    assert names(model, classifier["params"]) == {"classifier.weight", "classifier.bias"}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (
            "[features]",
            r"^finetune\.frozen=features: no parameter's name begins with it; parts of the network: stem, .*classifier$",
        ),
        ("[stem,stages,classifier]", r"^finetune\.frozen: nothing is left to train$"),
    ],
)
def test_parts_that_cannot_be_frozen_are_said(frozen: str, message: str):
    with pytest.raises(UserError, match=message):
        built(f"finetune.frozen={frozen}")


def test_numbers_of_frozen_parts_count_as_a_whole():
    model, _ = built("model=vgg16", "dataset.image_size=32", "finetune.frozen=[features.1]")
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["features.1.weight", "features.1.bias"]  # not features.10, features.11, ...


class Plain(nn.Module):
    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        super().__init__()
        self.last = nn.Linear(64 * in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1))


def pair() -> tuple[Tensor, Tensor]:
    return torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.arange(8)


def as_data(images: object, labels: object) -> ImageData:
    return ImageData(Split(*pair()), Split(images, labels))


def arrays() -> ImageData:
    return as_data(*(each.numpy() for each in pair()))


def lists() -> ImageData:
    return as_data(pair()[0], pair()[1].tolist())


def floats() -> ImageData:
    return as_data(pair()[0].float(), pair()[1])


def int32() -> ImageData:
    return as_data(pair()[0], pair()[1].int())


def from_minus_one() -> ImageData:
    return as_data(pair()[0], pair()[1] - 1)


def empty() -> ImageData:
    return as_data(pair()[0][:0], pair()[1][:0])


@pytest.fixture
def own(monkeypatch) -> Callable[..., DictConfig]:
    """The configuration of the network or a data set of this module."""
    monkeypatch.setenv("SPECTRAL_REPRO_TARGETS", __name__)

    def config(load: str | None = None, *overrides: str) -> DictConfig:
        found = compose(["scale=smoke", f"model._target_={__name__}.Plain", "~norm", *overrides])
        found.model = {"_target_": f"{__name__}.Plain"}
        if load:
            found.dataset.load = {"_target_": f"{__name__}.{load}"}
        return found

    return config


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("pair", "must return an ImageData, not tuple"),
        ("arrays", "test: the images must be a tensor, not ndarray"),
        ("lists", "test: the labels must be a tensor, not list"),
        ("floats", "test: the images must be uint8 (N, C, H, W), not float32 (8, 1, 8, 8)"),
        ("int32", "test: the labels must be int64 (N,), not int32 (8,)"),
        ("from_minus_one", "test: the labels must be the numbers of classes from 0 on, but one is -1"),
        ("empty", "test: there are no images"),
    ],
)
def test_data_of_ones_own_are_checked(own, load: str, message: str):
    with pytest.raises(UserError, match=rf"^dataset\.load: {re.escape(message)}$"):
        load_images(own(load))


def test_a_network_without_a_classifier_is_named(own):
    config = own(None, "finetune=default")
    network = build_model(config)
    with pytest.raises(UserError, match=r"^finetune: the network has no part named classifier$"):
        build_optimizer(config, network)
    config = own(None, "init=svd")
    with pytest.raises(UserError, match=r"^init: the network has no part named classifier$"):
        initialise(config, network, load_images(config).train, torch.device("cpu"))


def test_images_and_layers_that_a_network_does_not_take_are_named(own):
    config = own(None, "dataset.image_size=7")
    message = r"^dataset\.image_size=7, dataset\.channels=1: the network does not take such images \(mat1"
    with pytest.raises(UserError, match=message):
        check_images_fit(config, build_model(config), torch.device("cpu"))
    config = own(None, "dataset.num_classes=11")
    with pytest.raises(UserError, match=r"^dataset\.num_classes=11: the logits of one image are \(1, 10\), not \(1, 11\)$"):
        check_images_fit(config, build_model(config), torch.device("cpu"))
    config = compose(["scale=smoke"])
    config.model = {"_target_": f"{__name__}.Plain"}
    with pytest.raises(UserError, match=r"^norm: Plain takes no argument norm; set norm=null$"):
        build_model(config)


def test_fused_momentum_in_float16_is_refused():
    with pytest.raises(UserError, match=r"^optimizer\.fused=true: torch's SGD needs another precision than float16"):
        built("optimizer.fused=true", "precision=float16")
    assert built("optimizer.fused=true", "precision=float16", "optimizer.momentum=0")[1].defaults["fused"]


@pytest.mark.parametrize("views", ["plain", "mirrored"])
def test_images_in_memory_have_mirrored_views(views: str):
    config = compose(["scale=smoke", "dataset.batch_size=8", f"dataset.views={views}"])
    split = load_images(config).test
    images, labels = next(build_batches(config, split, torch.device("cpu"), train=False).epoch(0))
    count = 2 if views == "mirrored" else 1
    assert torch.equal(labels[::count], split.labels[: 8 // count])
    assert torch.equal(images[1::2], images[::2].flip(3)) == (views == "mirrored")


def test_ten_crops_of_images_in_memory_are_refused():
    config = compose(["scale=smoke", "dataset.views=ten_crop"])
    with pytest.raises(UserError, match=r"^dataset\.views=ten_crop: images in memory are already cut$"):
        build_batches(config, load_images(config).test, torch.device("cpu"), train=False)
