"""The reference computations of the benchmarks agree with the layers."""

import pytest
import torch

from spectral_repro.benchmarks.references import looped_whitening, svd_pooling
from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.linalg.backward import PowerIteration


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, dtype=torch.float64, generator=generator)
    x = torch.randn(6, 5, 5, 8, dtype=torch.float64, generator=generator) @ mixing
    return x.permute(0, 3, 1, 2)


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape).sin())
    return y.detach(), x.grad


@pytest.mark.parametrize("group_size", [1, 4, 8])
def test_looped_whitening_agrees_with_the_layer(group_size, features):
    loop = value_and_gradient(lambda x: looped_whitening(x, group_size, iterations=5), features)
    layer = value_and_gradient(ZCAWhitening(8, group_size, PowerIteration(5), shrinkage=0).double(), features)
    torch.testing.assert_close(loop, layer, rtol=1e-8, atol=1e-9)


def test_pooling_by_svd_agrees_with_the_layer(features):
    rows, columns = torch.triu_indices(8, 8)
    loop = value_and_gradient(lambda x: svd_pooling(x.flatten(2))[:, rows, columns], features)
    layer = value_and_gradient(CovariancePooling(8), features)
    torch.testing.assert_close(loop, layer, rtol=1e-8, atol=1e-9)
