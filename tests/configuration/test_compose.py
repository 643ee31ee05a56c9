"""Everything in conf/ composes and can be built."""

from pathlib import Path

import pytest
import torch

from spectral_repro.configuration.compose import CONF, compose, options
from spectral_repro.configuration.identity import flatten
from spectral_repro.configuration.rules import RULES, check
from spectral_repro.training.build import build_model, build_optimizer, build_schedule


@pytest.mark.parametrize(
    ("experiment", "scale"),
    [(experiment, "smoke") for experiment in options("experiment")]
    + [("wang2019/resnet18_zca_d16", scale) for scale in options("scale")],
)
def test_every_experiment_and_scale_builds(experiment: str, scale: str):
    config = compose([f"experiment={experiment}", f"scale={scale}"])
    check(config)
    model = build_model(config)
    build_optimizer(config, model)
    build_schedule(config)
    size = config.dataset.image_size
    with torch.no_grad():
        logits = model(torch.rand(2, config.dataset.channels, size, size))
    assert logits.shape == (2, config.dataset.num_classes)


@pytest.mark.parametrize(
    "override",
    [
        f"{group}={option}"
        for group in ("model", "norm", "backward", "dataset", "optimizer", "schedule")
        for option in options(group)
    ],
)
def test_every_option_builds(override: str):
    config = compose([override, "scale=smoke"])
    check(config)
    build_optimizer(config, build_model(config))
    build_schedule(config)


@pytest.mark.parametrize("norm", [norm for norm in options("norm") if norm != "batch"])
@pytest.mark.parametrize("backward", options("backward"))
def test_any_backward_in_any_norm(norm: str, backward: str):
    config = compose([f"norm={norm}", f"backward={backward}"])
    assert config.norm.backward == config.backward
    assert config.backward == compose([f"backward={backward}"]).backward


def test_zca_pi_is_zca_with_pi_and_the_published_truncation():
    named = compose(["norm=zca_pi"])
    spelled = compose(["norm=zca", "backward=pi", "norm.truncation=reference"])
    assert named == spelled


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_configs_are_short(path: Path):
    assert len(path.read_text().splitlines()) <= 60


def test_every_key_has_a_rule():
    leaves = set()
    for group in ("model", "norm", "backward", "dataset", "optimizer", "schedule", "scale"):
        for option in options(group):
            config = compose([f"{group}={option}"])
            leaves |= {f"{group}.{key}" for key in config[group]} if group in config else set()
    leaves |= {f"trainer.{key}" for key in compose().trainer}
    leaves |= {key for key in flatten(compose(["logger=[tensorboard,wandb]"])) if key.startswith("logger.")}
    leaves = {leaf for leaf in leaves if not leaf.rpartition(".")[2].startswith("_")}
    composite = {"norm.backward", "dataset.load"}
    assert leaves - composite - RULES.keys() == set()
