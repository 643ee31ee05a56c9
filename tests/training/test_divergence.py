"""A diverged run names the step and the layer, and a sweep continues."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spectral_repro.training.divergence import Failure, Watch


class Explode(nn.Module):
    """x * 1 forward, x * factor in the gradient."""

    def __init__(self, forward: float = 1.0, backward: float = 1.0):
        super().__init__()
        self.factors = forward, backward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x * self.factors[0]
        inner.register_hook(lambda gradient: gradient * self.factors[1])
        return inner.clone()


class Refuse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigh(torch.full((3, 3), torch.nan))[1] * x


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (nn.Identity(), None),
        (Explode(forward=torch.inf), Failure("2", "output")),
        (Explode(backward=torch.inf), Failure("2", "gradient of the input")),
        (Refuse(), Failure("2", "decomposition")),
    ],
    ids=["sound", "forward", "backward", "decomposition"],
)
def test_watch_names_the_layer_that_broke_first(broken: nn.Module, failure: Failure | None):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), broken, nn.Linear(3, 3), nn.Softplus())
    with Watch(network) as watch:
        network(torch.rand(3, 3)).sum().backward()
    assert watch.failure == failure
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Named(nn.Module):
    """A recurrent layer and a linear one, with their inputs by keyword; the frozen first layer has no gradient."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4).requires_grad_(False)
        self.recurrent = nn.GRU(4, 4, batch_first=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.recurrent(input=self.first(input=x))
        return self.last(input=outputs[:, -1])


@pytest.mark.parametrize(
    ("parameter", "failure"),
    [
        ("first.weight", Failure("first", "output")),
        ("recurrent.bias_hh_l0", Failure("recurrent", "output")),
        ("last.weight", Failure("last", "output")),
    ],
)
def test_watch_takes_frozen_layers_tuples_and_inputs_by_keyword(parameter: str, failure: Failure):
    network = Named()
    with Watch(network) as watch:
        network(torch.rand(5, 6, 3)).sum().backward()
    assert watch.failure is None
    network.get_parameter(parameter).data.fill_(torch.nan)
    with Watch(network) as watch:
        network(torch.rand(5, 6, 3)).sum().backward()
    assert watch.failure == failure


def test_watch_sees_the_gradient_of_an_input_by_keyword():
    network = Named()
    with Watch(network) as watch:
        (network(torch.rand(5, 6, 3)).sum() * torch.inf).backward()
    assert watch.failure == Failure("last", "gradient of bias")
    network.last.requires_grad_(False)
    with Watch(network) as watch:
        (network(torch.rand(5, 6, 3)).sum() * torch.inf).backward()
    assert watch.failure == Failure("last", "gradient of the input")


class Attention(nn.Module):
    """Layers with parts of their own: attention, and a linear layer with a parametrised weight."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.last(self.attention(x, x, x)[0])


@pytest.mark.parametrize(
    ("parameter", "layer"), [("attention.in_proj_weight", "attention"), ("last.bias", "last"), ("scale", "Attention")]
)
def test_watch_names_layers_with_parts(parameter: str, layer: str):
    network = Attention()
    network.get_parameter(parameter).data.fill_(torch.nan)
    with Watch(network) as watch:
        network(torch.rand(5, 6, 4)).sum().backward()
    assert watch.failure == Failure(layer, "output")


def test_watch_lets_other_errors_through():
    with pytest.raises(ZeroDivisionError), Watch(nn.Identity()):
        1 / 0  # noqa: B018


def write_black_images(root: Path) -> None:
    """A CIFAR-10 folder of black images: every covariance after a convolution is zero, all its eigenvalues tie."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    entry = {"data": np.zeros((20, 3072), np.uint8), "labels": [k % 10 for k in range(20)]}
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))


def test_plain_svd_diverges_at_a_tie_and_the_sweep_continues(call, tmp_path):
    write_black_images(tmp_path / "black")
    arguments = [
        "-m",
        "norm=zca_svd,zca",
        "dataset=cifar10",
        f"dataset.root={tmp_path / 'black'}",
        "dataset.check_integrity=false",
        "dataset.mean=[0,0,0]",
        "scale=smoke",
        "trainer.threads=1",
    ]
    result = call("train", *arguments)
    assert result.returncode == 0, result.stderr
    paths = tmp_path.glob("**/summary.json")
    summaries = {path.parent.name.partition("-seed")[0]: json.loads(path.read_text()) for path in paths}
    assert summaries["resnet18_zca_cifar10"]["state"] == "finished"
    diverged = summaries["resnet18_zca_svd_cifar10"]
    assert diverged["state"] == "diverged"
    assert diverged["failure"] == {"step": 0, "layer": "stem_norm", "during": "gradient of the input", "gap": 0.0}
    assert "diverged already" in call("train", *arguments).stdout


def test_an_exploding_training_is_a_result(train):
    summary = json.loads((train("norm=zca", "optimizer.lr=1e30", "trainer.epochs=3") / "summary.json").read_text())
    assert summary["state"] == "diverged"
    assert 0 < summary["failure"]["step"] <= 4 and summary["failure"]["layer"]


def test_a_network_with_a_frozen_layer_diverges_too(train):
    overrides = ["model=airbench", "model.width=4", "dataset=random", "dataset.image_size=32", "optimizer.lr=1e30"]
    summary = json.loads((train(*overrides, "trainer.epochs=1", "trainer.log_every=1") / "summary.json").read_text())
    assert summary["state"] == "diverged" and summary["failure"]["layer"]


def test_float16_names_the_layer_too(train):
    summary = json.loads((train("precision=float16", "optimizer.lr=1e8") / "summary.json").read_text())
    assert summary["state"] == "diverged"
    assert summary["failure"]["layer"] and summary["failure"]["during"] == "output"


@pytest.mark.parametrize("options", [("trainer.recalibrate_batches=1",), ()], ids=["recalibrated", "evaluated"])
def test_a_gradient_that_is_not_finite_in_the_last_step_is_a_divergence(train, monkeypatch, options):
    """The loss of this step is finite, so the evaluation is the first to decompose what is not."""
    step = torch.optim.SGD.step

    def broken(optimizer, *arguments, **given):
        step(optimizer, *arguments, **given)
        if len(calls := optimizer.__dict__.setdefault("calls", [])) % 4 == 3:
            optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))
        calls.append(None)

    monkeypatch.setattr(torch.optim.SGD, "step", broken)
    chosen = ("norm=zca_svd", "norm.group_size=4", "pooling=gcp", "model=alexnet_small", "trainer.epochs=1", "logger=none")
    run = train(*chosen, *options)
    assert json.loads((run / "summary.json").read_text())["state"] == "diverged"
