"""Networks converted to other convolutions, and exported again."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from spectral_repro import models
from spectral_repro.layers import SOC, SOTT, TTConv2d, convert, export
from spectral_repro.layers.parametrizations import bounded_norm

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
        network, found = convert(copy.deepcopy(plain), layer, keep_weights=False, **options), []
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
    assert [layer.bias is not None for layer in network] == [True, False]


def test_the_weights_are_kept_as_far_as_the_ranks_allow():
    torch.manual_seed(0)
    network, x = models.resnet18(width=4, stem_channels=4).double().eval(), torch.randn(2, 3, 32, 32).double()
    expected = network(x)
    whole = convert(copy.deepcopy(network), TTConv2d, scale=1.0)
    torch.testing.assert_close(whole(x), expected)
    low = nn.Conv2d(8, 6, 3, padding=1, dtype=torch.float64)
    parts = (torch.randn(shape, dtype=torch.float64) for shape in ((6, 2), (2, 3, 3, 3), (8, 3)))
    with torch.no_grad():
        low.weight.copy_(torch.einsum("ob,bahw,ia->oihw", *parts))
    layer, y = convert(low, TTConv2d, rank=3), torch.randn(2, 8, 5, 5).double()
    torch.testing.assert_close(layer(y), low(y))
    assert layer.relative_error < 1e-12
    layer = convert(low, TTConv2d, rank=1)
    error = (torch.linalg.vector_norm(layer.weight - low.weight) / torch.linalg.vector_norm(low.weight)).detach()
    torch.testing.assert_close(layer.relative_error, error)
    assert not torch.allclose(convert(low, TTConv2d, keep_weights=False, rank=3)(y), low(y), rtol=0.1, atol=0.1)


def test_a_module_in_several_places_stays_one():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    block = nn.Sequential(conv, nn.ReLU(), conv)
    network = nn.ModuleDict({"first": block, "again": conv, "twice": block})
    convert(network, TTConv2d, rank=2)
    layer = network["again"]
    assert isinstance(layer, TTConv2d) and block[0] is block[2] is layer and kinds(network).count(TTConv2d) == 1
    exported = export(network)
    assert type(exported["again"]) is nn.Conv2d and exported["twice"][2] is exported["first"][0] is exported["again"]


def test_a_bare_layer():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    layer = convert(conv, TTConv2d, rank=2)
    assert isinstance(layer, TTConv2d) and not list(conv.children())
    assert (
        convert(layer, TTConv2d, rank=1) is layer and layer.core.in_channels == 2
    )  # its parts are no convolutions of a network
    assert type(export(layer)) is nn.Conv2d


def test_frozen_parameters_stay_frozen():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    network[0].requires_grad_(False)
    network[1].bias.requires_grad_(False)
    convert(network, TTConv2d, rank=2)
    trained = [{name for name, p in layer.named_parameters() if p.requires_grad} for layer in network]
    weights = {"reduction.weight", "core.weight", "expansion.weight"}
    assert trained == [set(), weights, weights | {"expansion.bias"}]
    exported = [[p.requires_grad for p in conv.parameters()] for conv in export(network)]
    assert exported == [
        [False] * 2,
        [True, False],
        [True] * 2,
    ]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, "same", (2, 1)])
def test_padding_and_dilation(padding, mode: str):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 5, 3, padding=padding, padding_mode=mode, dilation=(1, 2), dtype=torch.float64)
    layer, x = convert(conv, TTConv2d, scale=1.0), torch.randn(2, 4, 6, 7).double()
    torch.testing.assert_close(layer(x), conv(x))
    small = TTConv2d.from_module(conv, rank=3)
    torch.testing.assert_close(export(small)(x), small(x))
    if padding == "same" and mode == "zeros":
        assert convert(nn.Conv2d(4, 5, 3, padding="same"), SOC, keep_weights=False)(x.float()).shape == (2, 5, 6, 7)


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked() -> nn.Module:
    conv = nn.Conv2d(4, 4, 3)
    conv.register_forward_pre_hook(lambda module, inputs: None)
    return conv


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        (lambda: nn.Conv2d(4, 4, 3, groups=2), r"features\.1 \(Conv2d\): groups=2: a TT convolution has no groups"),
        (lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), r"features\.1 \(ParametrizedConv2d\) has parametrizations"),
        (lambda: Scaled(4, 4, 3), r"features\.1 \(Scaled\) is a subclass"),
        (hooked, r"features\.1 \(Conv2d\) has hooks"),
    ],
)
def test_options_that_would_be_lost_are_refused_and_nothing_is_changed(conv, message: str):
    network = nn.ModuleDict({"features": nn.Sequential(nn.Conv2d(3, 4, 3), conv())})
    before = list(network.modules())
    with pytest.raises(ValueError, match=f"^{message}"):
        convert(network, TTConv2d, rank=2)
    assert list(network.modules()) == before


def test_parameters_that_two_convolutions_share_are_refused():
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    network[1].weight = network[0].weight
    with pytest.raises(ValueError, match=r"^1 \(Conv2d\) shares a parameter with 0"):
        convert(network, TTConv2d, rank=2)


@pytest.mark.parametrize("kind", [SOC, SOTT])
def test_skew_orthogonal_convolutions_take_no_weights_and_have_no_single_kernel(kind):
    options = {"rank": 2} if kind is SOTT else {}
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    with pytest.raises(ValueError, match=r"^0 \(Conv2d\): .* cannot take over weights: keep_weights=False"):
        convert(network, kind, **options)
    convert(network, kind, keep_weights=False, **options)
    with pytest.raises(ValueError, match=rf"^0 \({kind.__name__}\): applies several zero-padded convolutions in turn"):
        export(network)
    with pytest.raises(ValueError, match="no groups, no dilation, and zeros as padding"):
        convert(nn.Conv2d(4, 4, 3, padding=2, dilation=2), kind, keep_weights=False, **options)


def test_export_returns_a_copy_without_parametrizations():
    network = convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 4)), TTConv2d, keep_first=True, rank=2)
    parametrizations.spectral_norm(network[0])
    exported = export(network.eval())
    assert [type(module) for module in exported] == [nn.Conv2d, nn.Conv2d, nn.Linear]
    torch.testing.assert_close(exported[0].weight, network[0].weight)
    exported[1].weight.data.zero_()
    assert network[1].weight.any() and isinstance(network[1], TTConv2d)


def test_what_is_not_a_class_of_replacements_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match=r"^layer=TTConv2d\(...\): must be a class; options go to convert: convert\(netw"):
        convert(network, TTConv2d(3, 4, 3, rank=2), rank=2)
    assert type(network[0]) is nn.Conv2d
    with pytest.raises(ValueError, match="must be a class with replaces and from_module"):
        convert(nn.Conv2d(3, 4, 3), nn.Linear)


class Times(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.factor


@pytest.mark.parametrize(("first", "second", "tied"), [(0.5, 0.5, True), (0.5, 2.0, False), (0.5, None, False)])
def test_export_keeps_the_outputs_of_layers_that_share_a_parametrized_weight(first: float, second: float | None, tied: bool):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    for layer, factor in zip(network, (first, second), strict=True):
        if factor is not None:
            parametrize.register_parametrization(layer, "weight", Times(factor))
    x, exported = torch.randn(3, 4), export(network)
    torch.testing.assert_close(exported(x), network(x))
    assert (exported[0].weight is exported[1].weight) == tied


def test_export_of_a_network_in_training_has_the_weight_of_the_evaluation():
    layer = bounded_norm(nn.Conv2d(4, 4, 3, padding=1), 8, 0.1)
    layer.parametrizations.weight.original.data.normal_()  # the vectors of its power iteration are of another weight
    exported = export(layer.train()).eval()
    torch.testing.assert_close(exported.weight, layer.eval().weight)
