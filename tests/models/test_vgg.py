"""VGG for small images."""

import pytest
import torch
from torch import nn

from spectral_repro.configuration.compose import compose
from spectral_repro.models import vgg13_small, vgg19_small
from spectral_repro.training.build import build_model


@pytest.mark.parametrize(("build", "convolutions"), [(vgg13_small, 10), (vgg19_small, 16)])
def test_layers(build, convolutions: int):
    with torch.device("meta"):
        network = build()
    widths = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(widths) == convolutions and widths == sorted(widths) and {*widths} == {64, 128, 256, 512}
    assert sum(isinstance(module, nn.MaxPool2d) for module in network.features) == 5
    kinds = [type(module).__name__ for module in network.classifier]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [module.weight.shape for module in network.classifier[::3]] == [(512, 512), (512, 512), (1000, 512)]


def test_one_position_is_left_of_32_pixels():
    network, seen = vgg13_small(width=4, num_classes=7), []
    network.pooling.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert seen == [(2, 32, 1, 1)]


@pytest.mark.parametrize("size", [32, 28, 8])
def test_any_small_image(size: int):
    assert vgg13_small(width=4, in_channels=1, num_classes=7)(torch.rand(2, 1, size, size)).shape == (2, 7)


def test_the_network_of_senderovich2022():
    """Batch norm with eps 1e-3 after every convolution, none after the hidden layers."""
    options = ["model=vgg19_small", "norm=batch", "norm.eps=1e-3", "model.norm_placement=all", "model.hidden_norm=false"]
    network = build_model(compose([*options, "dataset=cifar100"]))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 16 and {norm.eps for norm in norms} == {1e-3}
    assert [type(module).__name__ for module in network.classifier] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert all(layer.bias is not None for layer in network.classifier[::2])
    assert network.classifier[-1].out_features == 100
