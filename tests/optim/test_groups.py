"""Parameter groups: which parameters are in which group, and with which values."""

import pytest
import torch
from torch import nn

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.layers import ZCAWhitening
from spectral_repro.models import AirBench, resnet18, resnext50_32x4d, wrn16_4
from spectral_repro.optim import SGDG, AdamG, adamg, sgdg
from spectral_repro.training.build import build_model, build_optimizer

OPTIONS = {"lr": 0.01, "lrg": 0.2, "weight_decay": 5e-4, "bn_decay": 1e-5}


def names(optimizer: torch.optim.Optimizer) -> list[list[str]]:
    return [group["param_names"] for group in optimizer.param_groups]


def test_a_wide_network_as_the_published_code_sorts_it():
    model = wrn16_4(width=64)
    before = model.stem.weight.detach().clone()
    rest, vectors, sphere = names(sgdg(model.parameters(), model, **OPTIONS))
    shapes = dict(model.named_parameters())
    assert rest == ["blocks.0.shortcut.weight", "blocks.2.shortcut.weight", "blocks.4.shortcut.weight", "classifier.weight"]
    assert all(name.endswith(("norm1.weight", "norm2.weight", "norm.weight", ".bias")) for name in vectors)
    assert sphere[0] == "stem.weight" and all(shapes[name].shape[2:] == (3, 3) for name in sphere) and len(sphere) == 13
    assert sorted([*rest, *vectors, *sphere]) == sorted(shapes)
    torch.testing.assert_close(model.stem.weight, before / before.flatten(1).norm(dim=1)[:, None, None, None])


def test_each_group_has_its_values():
    model = wrn16_4(width=8)
    made = adamg(model.parameters(), model, **OPTIONS, beta2=0.9, omega=0.3)
    assert isinstance(made, AdamG)
    rest, vectors, sphere = made.param_groups
    assert (rest["lr"], rest["weight_decay"], rest["grassmann"]) == (0.01, 5e-4, False)
    assert (vectors["lr"], vectors["weight_decay"], vectors["grassmann"]) == (0.01, 1e-5, False)
    assert (sphere["lr"], sphere["omega"], sphere["beta2"], sphere["grassmann"]) == (0.2, 0.3, 0.9, True)


def test_inputs_of_a_grouped_convolution_are_those_of_its_group():
    model = resnext50_32x4d(width=64)
    rest, _, sphere = names(sgdg(model.parameters(), model, **OPTIONS))
    assert "stages.0.0.conv2.weight" in rest, "128 channels, 4 x 3 x 3 inputs"
    assert "stages.3.2.conv1.weight" in sphere


def test_weight_and_bias_of_a_whitening_layer_are_vectors():
    model = resnet18(norm=ZCAWhitening, width=8)
    _, vectors, _ = names(sgdg(model.parameters(), model, **OPTIONS))
    assert {"stem_norm.weight", "stem_norm.bias"} <= set(vectors)


def test_groups_that_are_given_keep_their_share_of_the_learning_rate():
    model = wrn16_4(width=8)
    head = [*model.norm.parameters(), *model.classifier.parameters()]
    ids = {id(parameter) for parameter in head}
    features = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    made = sgdg([{"params": features}, {"params": head, "lr": 0.05}], model, **OPTIONS)
    assert [group["lr"] for group in made.param_groups] == [0.01, 0.01, 0.2, 0.05, 0.05]
    assert names(made)[3] == ["classifier.weight"]


def test_a_network_without_such_a_convolution_is_refused():
    with pytest.raises(ValueError, match="no convolution that is trained has fewer channels than inputs"):
        model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.Linear(64, 2))
        sgdg(model.parameters(), model, **OPTIONS)


@pytest.mark.parametrize("name", ["sgdg", "adamg"])
def test_the_table_is_printed_when_a_run_starts(name, train, capsys):
    overrides = [f"optimizer={name}", "dataset=random", "model=wrn16_4", "model.width=8", "optimizer.lrg=0.3"]
    train(*overrides)
    printed = capsys.readouterr().out
    config = compose(overrides)
    model = build_model(config)
    made = build_optimizer(config, model)
    assert isinstance(made, {"sgdg": SGDG, "adamg": AdamG}[name])
    blocks = printed.split("\non the sphere, learning rate 0.3: ")
    assert len(blocks) == 2 and "weight decay 0.0005, learning rate 0.01: " in blocks[0]
    assert "    stem.weight                             16 x 3 x 3 x 3" in blocks[1].splitlines()
    assert all(name in printed for name, _ in model.named_parameters())
    assert made.param_groups[0]["lr"] == 0.01, "what metrics.csv shows as the learning rate"


def test_fine_tuning_on_the_sphere(capsys):
    arguments = ["optimizer=sgdg", "model=wrn16_4", "model.width=8", "finetune=default", "finetune.classifier_factor=5"]
    config = compose([*arguments, "finetune.frozen=[stem,blocks.0]"])
    model = build_model(config)
    made = build_optimizer(config, model)
    assert [group["lr"] for group in made.param_groups] == [0.01, 0.01, 0.2, 0.05, 0.05]
    trained = {name for group in names(made) for name in group}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert "stem.weight" not in trained and "blocks.0.conv1.weight" not in trained


def test_errors_name_the_key():
    config = compose(["optimizer=sgdg", "model.width=8"])
    config.optimizer.momentum = 1.5
    with pytest.raises(UserError, match=r"^optimizer\.momentum=1\.5: must be in \[0, 1\)$"):
        build_optimizer(config, build_model(config))


# groups by kind


def by_kind(*overrides: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    config = compose(["scale=smoke", "param_groups=by_kind", *overrides])
    model = build_model(config)
    return model, build_optimizer(config, model)


def test_norms_and_biases_have_rates_of_their_own():
    factors = ["param_groups.norms.lr=64", "param_groups.norms.weight_decay=0.5", "param_groups.biases.lr=2"]
    model, made = by_kind("model=airbench", "optimizer.lr=0.01", "optimizer.weight_decay=1e-3", *factors)
    assert isinstance(model, AirBench)
    _, norms, biases = made.param_groups
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.01, 0.64, 0.02])
    assert [group["weight_decay"] for group in made.param_groups] == pytest.approx([1e-3, 5e-4, 1e-3])
    assert biases["param_names"] == ["patches.bias"]
    assert len(norms["param_names"]) == 6 and all(name.endswith("bias") for name in norms["param_names"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert "patches.weight" in frozen
    assert sorted(name for group in names(made) for name in group) == sorted(dict(model.named_parameters()).keys() - frozen)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_decay_of_norms_and_biases(optimizer: str):
    config = compose(
        ["scale=smoke", "param_groups=no_decay", f"optimizer={optimizer}", "norm=zca", "optimizer.weight_decay=0.01"]
    )
    model = build_model(config)
    made = build_optimizer(config, model)
    decay = {name: group["weight_decay"] for group in made.param_groups for name in group["param_names"]}
    assert {name: 0.01 if parameter.dim() > 1 else 0 for name, parameter in model.named_parameters()} == decay
    assert {group["lr"] for group in made.param_groups} == {config.optimizer.lr}


def test_every_norm_is_one(subtests):
    for norm in ("zca", "pca"):
        with subtests.test(norm=norm):
            _, made = by_kind(f"norm={norm}", "param_groups.norms.lr=3")
            assert {"stem_norm.weight", "stem_norm.bias"} <= set(names(made)[1])


def test_kinds_within_groups_of_a_fine_tuning_and_on_the_sphere():
    finetune = ["finetune=default", "finetune.classifier_factor=5", "param_groups.norms.lr=10"]
    _, made = by_kind("optimizer.lr=0.01", *finetune)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.01, 0.1, 0.05, 0.05])
    _, made = by_kind("optimizer=sgdg", "model=wrn16_4", "param_groups.norms.lr=10", "param_groups.norms.weight_decay=2")
    rest, sphere, norms, bias = made.param_groups
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.01, 0.2, 0.1, 0.01])
    assert [group["weight_decay"] for group in (rest, norms, bias)] == pytest.approx([5e-4, 1e-3, 0])
    assert sphere["grassmann"] and not any(name.endswith("bias") for name in sphere["param_names"])
