"""The network of daneshmand2021's Figure 7, layer by layer."""

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d, relu

from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.models import DeepAlexNet


def without_memory(**options) -> nn.Module:
    with torch.device("meta"):
        return DeepAlexNet(**options)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"num_layers": 15}, 31_349_130),
        ({"num_layers": 75}, 66_753_930),
        ({"num_layers": 15, "extra_norm": True}, 31_349_130 + 15 * 2 * 256),
        ({"num_layers": 15, "level": 2}, 31_349_130 + 15 * 9 * (192**2 - 256**2) - 15 * 256),
    ],
)
def test_published_size(options: dict, count: int):
    assert sum(p.numel() for p in without_memory(**options).parameters()) == count


@pytest.mark.parametrize("level", [2, 3])
@pytest.mark.parametrize("extra_norm", [False, True])
def test_the_order_of_its_layers(level: int, extra_norm: bool):
    """Step by step from the weights, in the order that they come in; without dropout."""
    torch.manual_seed(0)
    network = DeepAlexNet(num_layers=2, level=level, extra_norm=extra_norm, width=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_()
            module.weight.data.uniform_(-1, 1)
    state = iter(network.state_dict().values())

    def conv(x: torch.Tensor, stride: int = 1, bias: bool = True) -> torch.Tensor:
        return conv2d(x, next(state), next(state) if bias else None, stride, padding=1)

    def extra(x: torch.Tensor, bias: bool) -> torch.Tensor:
        for _ in range(2):
            x = relu(conv(x, bias=bias))
            if extra_norm:
                weight, shift, mean, variance, _ = (next(state) for _ in range(5))
                x = batch_norm(x, mean, variance, weight, shift)
        return x

    images = torch.rand(3, 3, 32, 32)
    x = relu(max_pool2d(conv(images, stride=2), 2))
    x = relu(max_pool2d(conv(x), 2))
    x = relu(conv(x))
    x = extra(x, bias=False) if level == 2 else x
    x = relu(conv(conv(x)))
    x = extra(x, bias=True) if level == 3 else x
    x = relu(max_pool2d(x, 2)).flatten(1)
    for act in (relu, relu, nn.Identity()):
        x = act(linear(x, next(state), next(state)))
    torch.testing.assert_close(network(images), x)
    assert next(state, None) is None


def test_dropout_stands_before_both_hidden_layers():
    kinds = [type(layer).__name__ for layer in without_memory().classifier]
    assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    assert [layer.p for layer in without_memory().classifier if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("size", [7, 8, 33, 64])
def test_other_images_norms_and_poolings(size: int):
    options = {"num_classes": 7, "in_channels": 1, "num_layers": 1, "extra_norm": True, "width": 4}
    network = DeepAlexNet(norm=lambda channels: ZCAWhitening(channels, 4), pooling=CovariancePooling, **options).eval()
    plain = DeepAlexNet(**options).eval()
    images = torch.rand(3, 1, size, size)
    with torch.no_grad():
        assert network(images).shape == plain(images).shape == (3, 7)
    assert [type(layer) for layer in network.features].count(ZCAWhitening) == 1


def test_another_level_is_refused():
    with pytest.raises(ValueError, match=r"^level=1: must be 2 or 3"):
        DeepAlexNet(level=1)
