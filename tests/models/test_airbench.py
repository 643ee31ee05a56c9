"""The network of airbench: its size, what is frozen, where the layer under study stands, and its first convolution."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, max_pool2d

from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.models import AirBench
from spectral_repro.models.init import dirac, kaiming, patches
from tests.tolerance import assert_near


@pytest.mark.parametrize(
    ("options", "count"), [({"width": 64, "widening": (1, 2, 2)}, 569_656), ({"width": 32, "widening": (1, 2, 4)}, 295_096)]
)
def test_size(options: dict, count: int):
    """And what of it is trained: a bias of the patches, 9 C_in C_out of a convolution, one number a channel of a norm."""
    network = AirBench(**options)
    assert sum(p.numel() for p in network.parameters()) == count
    channels = [24, *(options["width"] * factor for factor in options["widening"])]
    trained = 24 + sum(9 * b * (a + b) + 2 * b for a, b in pairwise(channels)) + 10 * channels[-1]
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == trained


def test_what_it_computes():
    """Written out for batch norms in evaluation, whose statistics are mean 0 and variance 1."""
    torch.manual_seed(0)
    network = AirBench(width=4, widening=(1, 2, 3), depth=3).double().eval()
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    y = gelu(conv2d(x, parameters["patches.weight"], parameters["patches.bias"]))
    for block in network.blocks:
        convolutions = [layer for layer in block if isinstance(layer, nn.Conv2d)]
        norms = [layer for layer in block if isinstance(layer, nn.BatchNorm2d)]
        assert len(convolutions) == len(norms) == 3
        for position, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
            y = conv2d(y, convolution.weight, padding=1)
            y = max_pool2d(y, 2) if position == 0 else y
            y = gelu(y / (1 + norm.eps) ** 0.5 + norm.bias[:, None, None])
    assert y.shape == (2, 12, 3, 3)
    torch.testing.assert_close(network(x), y.amax((2, 3)) @ parameters["classifier.weight"].mT / 9)


def test_without_the_last_max_pooling():
    """As many weights, and the last block works on 7 x 7 positions."""
    networks = [AirBench(width=4, last_stride=stride).eval() for stride in (1, 2)]
    x = torch.randn(2, 3, 32, 32)
    assert [network.features(x).shape for network in networks] == [(2, 8, 7, 7), (2, 8, 3, 3)]
    assert [p.shape for p in networks[0].parameters()] == [p.shape for p in networks[1].parameters()]


def test_norms_shift_and_do_not_scale():
    network = AirBench(norm=partial(ZCAWhitening, group_size=8, weight_init="uniform"), norm_placement="stem", width=8)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert [type(layer) for layer in norms] == [ZCAWhitening, *[nn.BatchNorm2d] * 5]
    assert all((layer.weight == 1).all() and not layer.weight.requires_grad and layer.bias.requires_grad for layer in norms)
    assert {layer.momentum for layer in norms[1:]} == {0.4}
    everywhere = AirBench(norm=partial(ZCAWhitening, group_size=8), width=8)
    assert sum(isinstance(layer, ZCAWhitening) for layer in everywhere.modules()) == 6


def test_covariance_pooling_sees_nine_positions():
    network = AirBench(pooling=CovariancePooling, width=8, widening=(1, 1, 2))
    assert network.features(torch.rand(2, 3, 32, 32)).shape == (2, 16, 3, 3)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def images(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    smooth = torch.randn(40, 3, 10, 10, generator=generator)
    return smooth[:number] + torch.randn(40, 3, 1, 1, generator=generator)[:number]


def test_patches_as_numpy_computes_them():
    """Each kernel up to its sign, which is free."""
    network, eps = AirBench(width=4), 1e-2
    bias = network.patches.bias.detach().clone()
    patches(network, images, images=30, eps=eps)
    pixels = images(30).numpy().astype(np.float64)
    rows = [pixels[:, :, i : i + 2, j : j + 2].reshape(30, 12) for i in range(9) for j in range(9)]
    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(np.concatenate(rows), rowvar=False, bias=True))
    gap = np.diff(eigenvalues).min()
    expected = torch.from_numpy((eigenvectors / np.sqrt(eigenvalues + eps)).T[::-1].copy())
    kernels = network.patches.weight.detach().double().flatten(1)
    signs = (kernels[:12] * expected).sum(1).sign()
    assert_near(
        signs[:, None] * kernels[:12], expected, dtype=torch.float32, terms=30 * 81, condition=float(eigenvalues[-1] / gap)
    )
    assert torch.equal(kernels[12:], -kernels[:12]) and torch.equal(network.patches.bias, bias)


def test_patches_come_out_white():
    """Var(w^T p) = lambda / (lambda + eps), and no two kernels are correlated."""
    network = AirBench(width=4).double()
    patches(network, lambda number: images(number).double(), images=40, eps=1e-9)
    with torch.no_grad():
        seen = conv2d(images(40).double(), network.patches.weight)[:, :12].transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen.cov(correction=0), torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("others", [dirac, kaiming])
def test_the_other_layers_start_as_they_are_told(others):
    torch.manual_seed(0)
    network, plain = AirBench(width=8), AirBench(width=8)
    plain.load_state_dict(network.state_dict())
    patches(network, images, images=40, others=others)
    white = network.patches.weight.clone()
    torch.manual_seed(1)
    others(network, images)
    assert torch.equal(network.patches.weight, white), "the frozen convolution keeps its patches"
    torch.manual_seed(1)
    others(plain, images)
    for name, parameter in plain.named_parameters():
        assert name.startswith("patches") or torch.equal(parameter, network.get_parameter(name))


@pytest.mark.parametrize("first", [nn.Conv2d(3, 64, 3), nn.Conv2d(3, 9, 2), nn.Conv2d(4, 8, 2, groups=2), nn.Linear(3, 3)])
def test_a_network_without_such_a_convolution_is_refused(first: nn.Module):
    with pytest.raises(ValueError, match="the network's first convolution must have an even number of output channels"):
        patches(nn.Sequential(first), images)
