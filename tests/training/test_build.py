"""Which parameters are trained, and how fast."""

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_batches, build_model, build_optimizer, load_images


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
        ("[features]", r"^finetune\.frozen=features: no parameter's name begins so; parts of the network: stem, .*classifier$"),
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
