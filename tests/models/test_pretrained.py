"""torchvision's networks, their weights random, under the names of the networks here."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from spectral_repro import models
from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.models import ResNet, alexnet, resnet18, resnet50_large, vgg16
from spectral_repro.models.pretrained import translate
from spectral_repro.models.resnet import BasicBlock
from tests.tolerance import assert_near


def randomised(network: nn.Module) -> nn.Module:
    """With statistics and biases that are not those of a start."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
    return network.eval()


def taken(source: nn.Module, target: nn.Module) -> nn.Module:
    target.load_state_dict(translate(source, target), strict=False)
    return target.eval()


def without_memory(build: Callable[..., nn.Module], **options) -> nn.Module:
    with torch.device("meta"):
        return build(**options)


@torch.no_grad()
def test_the_same_architecture_computes_the_same():
    source, x = randomised(torchvision.models.resnet18()), torch.rand(2, 3, 64, 64)
    target = ResNet(BasicBlock, (2, 2, 2, 2), num_classes=1000, large=True)
    assert_near(taken(source, target)(x), source(x), terms=18 * 9 * 512)


@pytest.mark.parametrize(("published", "build"), [("vgg16_bn", vgg16), ("vgg16", vgg16), ("alexnet", alexnet)])
@torch.no_grad()
def test_features_after_biases_are_the_same(published: str, build: Callable[..., nn.Module]):
    """Up to their last max-pooling, which has no counterpart here."""
    source, x = without_memory(getattr(torchvision.models, published)), torch.rand(2, 3, 64, 64)
    source.features.to_empty(device="cpu").apply(lambda layer: getattr(layer, "reset_parameters", int)())
    features = taken(randomised(source), build(num_classes=7)).features
    expected = source.features[:-1](x)
    assert_near(features(x), expected, terms=16 * 9 * 512)


@pytest.mark.parametrize(
    ("published", "build"), [(name, name) for name in ("resnet34", "resnet50", "resnext50_32x4d")] + [("vgg19_bn", "vgg19")]
)
def test_all_tensors_are_used_except_stem_and_classifier(published: str, build: str):
    target = without_memory(getattr(models, build), num_classes=7)
    weights, own = translate(without_memory(getattr(torchvision.models, published)), target), target.state_dict()
    assert {name.partition(".")[0] for name in own.keys() - weights.keys()} <= {"stem", "stem_norm", "classifier"}
    assert all(value.shape == own[name].shape for name, value in weights.items())


def test_the_layer_under_study_and_the_pooling_keep_their_initial_weights():
    target = without_memory(resnet50_large, norm=ZCAWhitening, pooling=lambda channels: CovariancePooling(channels, 256))
    weights = translate(without_memory(torchvision.models.resnet50), target)
    missing = target.state_dict().keys() - weights.keys()
    assert {name.partition(".")[0] for name in missing} == {"stem_norm", "pooling", "classifier"}
    assert not any(name.startswith(("stem_norm", "pooling", "classifier")) for name in weights)


def test_the_norm_after_a_convolution_that_does_not_fit_keeps_its_initial_weights():
    weights = translate(without_memory(torchvision.models.resnet18), without_memory(resnet18))
    assert not any(name.startswith("stem") for name in weights)


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="it has 104 convolutions, the model 53"):
        translate(without_memory(torchvision.models.resnet101), without_memory(resnet50_large))
