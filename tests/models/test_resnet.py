"""The residual networks: sizes, structure, where the layer under study stands, initial weights."""

import math
import re
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn

from spectral_repro import models
from spectral_repro.layers import ZCAWhitening
from spectral_repro.models import resnet18, resnet34, resnet50, resnext50_32x4d
from spectral_repro.models.resnet import Block, Projection
from tests.tolerance import assert_near, sampling_error

IMAGENET_PARAMETERS = {  # as torchvision documents them
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
}


def without_memory(build, **options) -> nn.Module:
    with torch.device("meta"):
        return build(**options)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("build", "count"), [(resnet18, 11_173_962), (resnet34, 21_282_122), (resnet50, 23_520_842)])
def test_published_size(build, count: int):
    """The parameter counts of the CIFAR networks that wang2019's code is based on."""
    assert parameters(without_memory(build)) == count


@pytest.mark.parametrize("name", IMAGENET_PARAMETERS)
def test_number_of_parameters_against_the_network_for_imagenet(name: str):
    """7 x 7 stem to 3 x 3 stem, 1000 classes to 7."""
    features = 512 if name in ("resnet18", "resnet34") else 2048
    stem, classifier = 3 * 64 * (7 * 7 - 3 * 3), (features + 1) * (1000 - 7)
    network = without_memory(getattr(models, name), num_classes=7)
    assert parameters(network) == IMAGENET_PARAMETERS[name] - stem - classifier


def stages_of_torchvision(network: nn.Module) -> dict[str, Tensor]:
    """The weights of the four stages under the names that they have here."""
    names = {r"^layer(\d)": lambda found: str(int(found[1]) - 1), r"\.bn": ".norm", r"\.downsample": ".shortcut"}
    renamed = {}
    for name, value in network.state_dict().items():
        if name.startswith("layer"):
            for pattern, new in names.items():
                name = re.sub(pattern, new, name)
            renamed[name] = value
    return renamed


def convolutions(module: nn.Module) -> list[tuple]:
    found = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    strides = [c.stride if c.kernel_size != (1, 1) else "of the block" for c in found]  # a projection takes its pixels first
    shapes = [(c.kernel_size, c.padding, c.dilation, c.groups, c.bias is None) for c in found]
    return list(zip(shapes, strides, strict=True))


@pytest.mark.parametrize("name", IMAGENET_PARAMETERS)
def test_every_layer_of_the_stages_is_that_of_torchvision(name: str):
    reference, network = without_memory(getattr(torchvision.models, name)), without_memory(getattr(models, name))
    expected = stages_of_torchvision(reference)
    assert [(key, value.shape) for key, value in network.stages.state_dict().items()] == [
        (key, value.shape) for key, value in expected.items()
    ]
    layers = nn.ModuleList([reference.layer1, reference.layer2, reference.layer3, reference.layer4])
    assert convolutions(network.stages) == convolutions(layers)


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_the_stages_compute_what_those_of_torchvision_compute(name: str):
    reference, network = getattr(torchvision.models, name)().double(), getattr(models, name)().double()
    layers = nn.Sequential(reference.layer1, reference.layer2, reference.layer3, reference.layer4)
    x = torch.rand(4, 64, 16, 16, dtype=torch.float64)
    network.stages.load_state_dict(stages_of_torchvision(reference))
    with torch.no_grad():
        for mode in (True, False):  # the first moves the running statistics
            found, expected = network.train(mode).stages(x), layers.train(mode)(x)
            assert_near(found, expected, terms=16 * 9 * 512, condition=1e4)  # deviations of few positions are divided by


def test_a_projection_is_a_strided_convolution():
    """On the images where torch's own gradient of one corrupts memory: few channels, 64 x 64 pixels, channels_last."""
    torch.manual_seed(0)
    projection = Projection(4, 8, 2, norm=lambda channels: nn.Identity()).to(memory_format=torch.channels_last)
    reference = nn.Conv2d(4, 8, 1, 2, bias=False)
    reference.load_state_dict(projection[0].state_dict())
    x, grad_output = torch.rand(16, 4, 64, 64), torch.rand(16, 8, 32, 32)
    found, expected = x.contiguous(memory_format=torch.channels_last).requires_grad_(), x.clone().requires_grad_()
    results = []
    for network, images in ((projection, found), (reference, expected)):
        y = network(images)
        y.backward(grad_output)
        results.append((y, images.grad, next(network.parameters()).grad))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [32, 28, 8, 5])
@pytest.mark.parametrize("build", [resnet18, resnext50_32x4d])
def test_any_small_image(build, size: int):
    network = build(num_classes=7, in_channels=1, width=4, stem_channels=8).eval()
    with torch.no_grad():
        assert network(torch.rand(3, 1, size, size)).shape == (3, 7)


@pytest.mark.parametrize(("build", "channels"), [(resnet18, 8), (resnet50, 32), (resnext50_32x4d, 32)])
def test_stages_halve_the_size_and_double_the_channels(build, channels: int):
    network, sizes = build(width=8), []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    network(torch.rand(2, 3, 32, 32))
    assert sizes == [(channels, 32, 32), (2 * channels, 16, 16), (4 * channels, 8, 8), (8 * channels, 4, 4)]


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_a_block_knows_its_output(build):
    network = without_memory(build, width=8)
    x = torch.empty(2, 64, 9, 9, device="meta")
    for block in (block for stage in network.stages for block in stage):
        assert isinstance(block, Block)
        x = block(x)
        assert x.shape[1] == block.out_channels
    assert x.shape == (2, network.classifier.in_features, 2, 2)


@pytest.mark.parametrize(
    ("width", "groups"),
    [(64, [32, 32, 32, 32]), (16, [32, 32, 32, 32]), (20, [8, 16, 32, 32]), (4, [8, 16, 32, 32]), (1, [2, 4, 8, 16])],
)
def test_groups_of_a_narrow_network(width: int, groups: list[int]):
    """As many of the 32 as divide the channels evenly, 2 x 2^stage x width of them."""
    network = without_memory(resnext50_32x4d, width=width)
    assert [stage[0].conv2.groups for stage in network.stages] == groups
    assert all(stage[0].conv2.in_channels == 2 * width * 2**index for index, stage in enumerate(network.stages))


def whitenings(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, ZCAWhitening)]


def batch_norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(("build", "others"), [(resnet18, 19), (resnet50, 52), (resnext50_32x4d, 52)])
def test_the_layer_under_study_stands_after_the_stem(build, others: int):
    network = without_memory(build, norm=ZCAWhitening)
    assert whitenings(network) == ["stem_norm"]
    assert len(batch_norms(network)) == others


@pytest.mark.parametrize(("build", "count"), [(resnet18, 20), (resnet50, 53), (resnext50_32x4d, 53)])
def test_the_layer_under_study_stands_everywhere(build, count: int):
    network = without_memory(build, norm=ZCAWhitening, norm_placement="all")
    assert len(whitenings(network)) == count and not batch_norms(network)


def test_bottlenecks_train_with_it_everywhere():
    torch.manual_seed(0)
    network = resnext50_32x4d(norm=ZCAWhitening, norm_placement="all", width=16, stem_channels=16)
    network(torch.rand(32, 3, 8, 8)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert network.stages[3][2].conv2.weight.grad.any() and network.stem.weight.grad.any()


def test_a_group_that_does_not_divide_the_channels_is_refused():
    with pytest.raises(ValueError, match="group_size=16: must divide the 8 channels"):
        resnet50(norm=partial(ZCAWhitening, group_size=16), norm_placement="all", width=8)


def test_another_placement_is_refused():
    with pytest.raises(ValueError, match="norm_placement='first'"):
        resnet18(norm_placement="first")


@pytest.mark.parametrize(("build", "layer"), [(resnet18, "conv2"), (resnext50_32x4d, "conv2"), (resnet50, "conv3")])
def test_convolutions_start_kaiming_normal_fan_out(build, layer: str):
    torch.manual_seed(0)
    convolution = getattr(build().stages[3][1], layer)
    fan_out = convolution.out_channels * math.prod(convolution.kernel_size)
    weight, std = convolution.weight, math.sqrt(2 / fan_out)
    assert weight.std().item() == pytest.approx(std, rel=sampling_error(weight))
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
