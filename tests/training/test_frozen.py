"""Frozen parts: weights and running statistics do not change, and dropout is off."""

import copy

import pytest
import torch
from torch import nn

from spectral_repro.layers import ZCAWhitening, recalibrate
from spectral_repro.training.frozen import freeze, frozen_parts, train_mode

RUN = ("trainer.epochs=2", "trainer.recalibrate_batches=2", "finetune=default", "finetune.frozen=[stem,stages.0]")


def weights(folder) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]


@pytest.mark.parametrize("norm", ["batch", "zca"])
def test_frozen_parts_of_a_training_keep_their_statistics(train, norm: str):
    """Those of the checkpoint that it starts from; the other parts move."""
    first = train(f"norm={norm}", "model=resnet18")
    before = weights(first)
    start = (f"norm={norm}", "model=resnet18", "init=checkpoint", f"init.checkpoint={first}/checkpoints/last.pt", "seed=1")
    after = weights(train(*start, *RUN))
    frozen = [name for name in before if name.startswith(("stem", "stages.0."))]
    assert any("running" in name for name in frozen) and all(torch.equal(before[name], after[name]) for name in frozen)
    moving = [name for name in before if "running" in name and name not in frozen]
    assert moving and not any(torch.equal(before[name], after[name]) for name in moving)


@pytest.fixture
def network() -> nn.Module:
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), ZCAWhitening(4))
    return nn.Sequential(features, nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(4 * 36, 2), nn.BatchNorm1d(2))


def test_a_frozen_part_stays_in_evaluation(network):
    freeze(network, ["0"])
    assert frozen_parts(network) == [network[0]]
    train_mode(network)
    assert network.training and network[1].training and not any(module.training for module in network[0].modules())
    before = copy.deepcopy(network.state_dict())
    network(torch.randn(8, 3, 8, 8))
    network[0].requires_grad_(True)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"{layer}.{name}" for layer in (1, 4) for name in ("running_mean", "running_var", "num_batches_tracked")}
    train_mode(network)
    assert all(module.training for module in network.modules())


def test_recalibration_leaves_frozen_parts_out(network):
    freeze(network, ["0", "4.weight"])
    network[0][1].running_mean.fill_(3)
    averaged = torch.optim.swa_utils.AveragedModel(network, use_buffers=True)  # its copy is frozen alike
    for each in (network, averaged.module):
        before = copy.deepcopy(each.state_dict())
        recalibrate(each, [torch.randn(8, 3, 8, 8)], frozen_parts(each))
        moved = {name for name, value in each.state_dict().items() if not torch.equal(value, before[name])}
        assert {name.partition(".")[0] for name in moved} == {"1", "4"}


def test_partly_frozen_modules_are_trained(network):
    freeze(network, ["0.0.weight", "4"])
    assert frozen_parts(network) == [network[4]]
    freeze(network, ["0", "3"])
    assert frozen_parts(network) == [network]
