"""Networks converted to other convolutions, and exported again."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from spectral_repro import models
from spectral_repro.layers import SOC, SOTT, TTConv2d, convert, export

NETWORKS = {
    "resnet18": partial(models.resnet18, width=4, stem_channels=4),
    "resnet50": partial(models.resnet50, width=2, stem_channels=4),
    "alexnet_small": partial(models.alexnet_small, num_classes=10, width=4),
    "vgg16": partial(models.vgg16, num_classes=10, width=4),
    "lipconvnet5": partial(models.lipconvnet5, width=4),
}


def kinds(network: nn.Module) -> list[type]:
    return [type(module) for module in network.modules() if isinstance(module, nn.Conv2d | TTConv2d | SOC | SOTT)]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolution_is_replaced_and_exported_again(name: str):
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    network = convert(copy.deepcopy(plain), TTConv2d, rank=3)
    assert kinds(network).count(TTConv2d) == kinds(plain).count(nn.Conv2d)
    x = torch.randn(4, 3, 32, 32)
    network(x).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    exported = export(network.eval())
    assert set(kinds(exported)) == {nn.Conv2d}
    plain.load_state_dict(exported.state_dict())
    with torch.no_grad():
        expected = network(x)
        for found in (exported(x), plain.eval()(x)):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_the_shapes_stay():
    """Of every convolution's output, whatever the layer."""
    plain = models.resnet18(width=4, stem_channels=4)
    shapes = []
    for layer, options in ((TTConv2d, {"rank": 2}), (SOC, {}), (SOTT, {"rank": 2})):
        network, found = convert(copy.deepcopy(plain), layer, **options), []
        for module in network.modules():
            if isinstance(module, layer):
                module.register_forward_hook(lambda module, inputs, output, found=found: found.append(output.shape))
        network(torch.randn(2, 3, 32, 32))
        shapes.append(found)
    assert len(shapes[0]) == 20 and shapes[0] == shapes[1] == shapes[2]


def test_the_first_can_be_kept():
    plain = models.resnet18(width=4, stem_channels=4)
    network = convert(copy.deepcopy(plain), TTConv2d, keep_first=True, rank=2)
    assert torch.equal(network.stem.weight, plain.stem.weight)
    assert kinds(network)[0] is nn.Conv2d and kinds(network).count(TTConv2d) == 19


def test_dtype_mode_and_bias_are_those_of_the_convolution():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, bias=False)).double().eval()
    convert(network, TTConv2d, rank=4)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert not any(module.training for module in network.modules())
    assert [layer[-1].bias is not None for layer in network] == [True, False]


def test_what_is_exported_is_a_copy():
    network = convert(models.resnet18(width=4, stem_channels=4), TTConv2d, rank=2)
    export(network).stem.weight.data.zero_()
    assert network.stem.kernel.any() and isinstance(network.stem, TTConv2d)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
    ids=str,
)
def test_other_convolutions_are_refused_by_name(conv: nn.Conv2d):
    with pytest.raises(ValueError, match=r"features\.1 is Conv2d\(.*groups, dilation and padding other than zeros"):
        convert(nn.ModuleDict({"features": nn.Sequential(nn.Conv2d(3, 4, 3), conv)}), TTConv2d, rank=2)


def test_skew_orthogonal_convolutions_have_no_single_kernel():
    network = nn.Sequential(SOTT(3, 4, rank=2))
    with pytest.raises(ValueError, match=r"^0\.core is a series of convolutions"):
        export(network)
