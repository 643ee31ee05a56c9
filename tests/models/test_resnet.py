"""The networks of wang2019: sizes, where the layer under study stands, initial weights."""

import math

import pytest
import torch
from torch import nn

from spectral_repro.layers import ZCAWhitening
from spectral_repro.models import resnet18, resnet34


@pytest.mark.parametrize(("build", "parameters"), [(resnet18, 11_173_962), (resnet34, 21_282_122)])
def test_published_size(build, parameters: int):
    """The parameter counts of the CIFAR networks that the paper's code is based on."""
    assert sum(p.numel() for p in build().parameters()) == parameters


@pytest.mark.parametrize("size", [32, 28, 8, 5])
def test_any_small_image(size: int):
    network = resnet18(num_classes=7, in_channels=1, width=4, stem_channels=8).eval()
    with torch.no_grad():
        assert network(torch.rand(3, 1, size, size)).shape == (3, 7)


def whitenings(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, ZCAWhitening)]


def batch_norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_layer_under_study_stands_after_the_stem():
    network = resnet18(norm=ZCAWhitening)
    assert whitenings(network) == ["stem_norm"]
    assert len(batch_norms(network)) == 19


def test_or_everywhere():
    network = resnet18(norm=ZCAWhitening, norm_placement="all")
    assert len(whitenings(network)) == 20 and not batch_norms(network)


def test_another_placement_is_refused():
    with pytest.raises(ValueError, match="norm_placement=first"):
        resnet18(norm_placement="first")


def test_stages_halve_the_size_and_double_the_channels():
    network, sizes = resnet18(width=8), []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    network(torch.rand(2, 3, 32, 32))
    assert sizes == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]


def test_convolutions_start_kaiming_normal_fan_out():
    torch.manual_seed(0)
    weight = resnet18().stages[3][1].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)
    assert abs(weight.mean().item()) < 1e-4
