"""Random initial weights: their distributions, and that they depend only on torch's CPU generator."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from spectral_repro.models.init import dirac, kaiming, orthogonal, xavier
from tests.tolerance import assert_near, sampling_error


def no_images(number: int) -> torch.Tensor:
    raise AssertionError("these look at no images")


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(16, 48, 3), nn.BatchNorm2d(48), nn.Sequential(nn.Conv2d(48, 32, 5, bias=False)), nn.Linear(300, 200)
    )


@pytest.mark.parametrize("init", [xavier, kaiming, orthogonal])
def test_the_same_seed_gives_the_same_weights_in_any_memory_format(init):
    first, second = network(), network().to(memory_format=torch.channels_last)
    for model in (first, second):
        torch.manual_seed(3)
        init(model, no_images)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other) and one.requires_grad
    assert not first[0].bias.any() and not first[3].bias.any()
    assert (first[1].weight == 1).all(), "a normalisation keeps what it has"


def test_xavier():
    torch.manual_seed(0)
    model = network()
    xavier(model, no_images)
    for layer, fans in ((model[0], 9 * (16 + 48)), (model[2][0], 25 * (48 + 32)), (model[3], 300 + 200)):
        limit = math.sqrt(12 / fans)  # variance 4 / fans
        assert layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=sampling_error(layer.weight))


def test_kaiming():
    torch.manual_seed(0)
    model = network()
    kaiming(model, no_images)
    for layer, fan_in in ((model[0], 9 * 16), (model[2][0], 25 * 48), (model[3], 300)):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=sampling_error(layer.weight))


def test_orthogonal():
    model = network()
    orthogonal(model, no_images)
    for layer in (model[0], model[2][0], model[3]):
        rows = layer.weight.flatten(1)
        assert_near(rows @ rows.mT, 2 * torch.eye(len(rows)), terms=rows.numel())


def test_dirac_passes_the_first_channels_on():
    """A convolution to more channels begins with its input, one to fewer channels is the beginning of its input."""
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.Conv2d(6, 3, 5, padding=2, bias=False))
    before = model[0].weight.detach().clone()
    dirac(model, no_images)
    x = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(model[0](x)[:, :4], x)
    torch.testing.assert_close(model(x), x[:, :3])
    assert torch.equal(model[0].weight[4:], before[4:])


@pytest.mark.parametrize("init", [xavier, kaiming, orthogonal, dirac])
def test_frozen_weights_are_kept(init):
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    init(model, no_images)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("init", [xavier, kaiming, orthogonal, dirac])
def test_a_parametrized_weight_is_refused(init):
    model = network()
    parametrizations.weight_norm(model[0])
    with pytest.raises(ValueError, match=r"its weight is parametrized and cannot be set; initialise it before"):
        init(model, no_images)


def test_dirac_passes_the_channels_of_every_group_on():
    model, x = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), torch.randn(2, 8, 5, 5)
    dirac(model, no_images)
    torch.testing.assert_close(model(x), x)
