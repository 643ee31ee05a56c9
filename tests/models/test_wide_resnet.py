"""Wide residual networks: sizes, blocks, shortcuts, initial weights."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, relu

from spectral_repro.layers import ZCAWhitening
from spectral_repro.models import WideResNet, wrn16_4, wrn16_10, wrn22_8, wrn28_10, wrn40_10
from spectral_repro.models.wide_resnet import WideBlock
from tests.tolerance import sampling_error


def without_memory(build, **options) -> nn.Module:
    with torch.device("meta"):
        return build(**options)


@pytest.mark.parametrize(
    ("build", "millions"), [(wrn16_4, 2.7), (wrn16_10, 17.1), (wrn22_8, 17.2), (wrn28_10, 36.5), (wrn40_10, 55.8)]
)
def test_published_size(build, millions: float):
    """Those that Zagoruyko and Komodakis print (WRN-22-8, -28-10), or that their formula gives."""
    assert round(sum(p.numel() for p in without_memory(build).parameters()) / 1e6, 1) == millions


def block(*arguments, **options) -> WideBlock:
    torch.manual_seed(0)
    made = WideBlock(*arguments, norms=(nn.BatchNorm2d, nn.BatchNorm2d), **options).double()
    for norm in (made.norm1, made.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return made


def activated(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    centred = x - x.mean((0, 2, 3), keepdim=True)
    scaled = centred / (centred.square().mean((0, 2, 3), keepdim=True) + norm.eps).sqrt()
    return relu(norm.weight[:, None, None] * scaled + norm.bias[:, None, None])


def residual(made: WideBlock, a: Tensor, stride: int) -> Tensor:
    y = conv2d(a, made.conv1.weight, stride=stride, padding=1)
    return conv2d(activated(made.norm2, y), made.conv2.weight, padding=1)


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 1), (4, 2), (6, 2)])
@pytest.mark.parametrize("shortcut", ["conv", "pool"])
def test_a_block(channels: int, stride: int, shortcut: str):
    made, x = block(4, channels, stride, shortcut=shortcut), torch.randn(3, 4, 8, 8, dtype=torch.float64)
    a = activated(made.norm1, x)
    if (channels, stride) == (4, 1):
        beside = x
    elif shortcut == "conv":
        beside = conv2d(a, made.shortcut.weight, stride=stride)
    else:
        beside = torch.zeros(3, channels, 8 // stride, 8 // stride, dtype=torch.float64)
        first = (channels - 4) // 2
        beside[:, first : first + 4] = avg_pool2d(x, stride)
    torch.testing.assert_close(made(x), residual(made, a, stride) + beside)
    assert (made.shortcut is None) == (shortcut == "pool" or beside is x)


def test_a_pooling_shortcut_to_fewer_channels_keeps_those_in_the_middle():
    made, x = block(8, 4, 1, shortcut="pool"), torch.randn(3, 8, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(made(x), residual(made, activated(made.norm1, x), 1) + x[:, 2:6])


@pytest.mark.parametrize("size", [32, 28, 8, 5])
@pytest.mark.parametrize("shortcut", ["conv", "pool"])
def test_any_small_image(size: int, shortcut: str):
    network = wrn16_4(num_classes=7, in_channels=1, width=4, shortcut=shortcut).eval()
    with torch.no_grad():
        assert network(torch.rand(3, 1, size, size)).shape == (3, 7)


def test_dropout_is_between_the_convolutions_and_in_training_alone():
    made = WideBlock(4, 4, 1, norms=(lambda channels: nn.Identity(),) * 2, dropout=0.25)
    x, seen = torch.randn(3, 4, 16, 16), []
    made.conv2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for mode in (True, False):
        made.train(mode)(x)
    dropped, whole = seen
    torch.testing.assert_close(whole, relu(made.conv1(relu(x))))
    kept = (dropped != 0) | (whole == 0)
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert 1 - kept[whole > 0].float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_where_the_layer_under_study_stands():
    def whitenings(**options) -> list[str]:
        network = without_memory(WideResNet, depth=16, norm=ZCAWhitening, **options)
        return [name for name, module in network.named_modules() if isinstance(module, ZCAWhitening)]

    assert whitenings() == ["blocks.0.norm1"]
    assert len(whitenings(norm_placement="all")) == 13


def test_initial_weights():
    torch.manual_seed(0)
    plain, published = wrn16_4(), wrn16_4(gain=2)
    weight = plain.blocks[5].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=sampling_error(weight))
    wider = published.blocks[4].conv1.weight
    assert wider.std().item() == pytest.approx(2 / math.sqrt(128 * 9), rel=sampling_error(wider))
    last = published.classifier.weight
    assert last.std().item() == pytest.approx(2 / math.sqrt(256), rel=sampling_error(last))
    assert not published.classifier.bias.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_placement": "first"}, "norm_placement='first'"),
        ({"shortcut": "none"}, "shortcut='none': must be conv or pool"),
        ({"dropout": 1.0}, r"dropout=1\.0: must be in \[0, 1\)"),
    ],
)
def test_wrong_arguments(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        wrn16_4(**options)


@pytest.mark.parametrize("depth", [4, 9, 12, 20])
def test_a_depth_without_whole_blocks_is_refused(depth: int):
    with pytest.raises(ValueError, match=f"depth={depth}: must be 6 n \\+ 4, n >= 1"):
        WideResNet(depth, width=4)
