"""MinMax: order, gradient, what it refuses."""

import pytest
import torch

from spectral_repro.layers import MinMax


def test_minima_before_maxima_of_the_two_halves():
    x = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 4, 1, 1)
    assert MinMax()(x).flatten().tolist() == [0.5, -2.0, 1.0, 3.0]


@pytest.mark.parametrize("spread", [1.0, 0.0], ids=["apart", "equal"])
def test_its_jacobian_is_a_permutation(spread: float):
    x = spread * torch.randn(6, 1, 1, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: MinMax()(x[None])[0], x).view(6, 6)
    assert torch.equal(jacobian @ jacobian.mT, torch.eye(6)) and set(jacobian.flatten().tolist()) == {0.0, 1.0}


def test_an_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="even number of channels"):
        MinMax()(torch.zeros(1, 3, 2, 2))
