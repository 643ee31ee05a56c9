"""Statistics of the whole batch in a single process agree with those of the layers. For two processes: `test_processes.py`."""

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from spectral_repro.layers import PCADenoising, ZCAWhitening
from spectral_repro.layers.replicas import rank, replicas, synchronise
from tests.tolerance import assert_near


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Subclass(nn.BatchNorm2d):
    pass


class WithForward(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(2 * x) + 1


LAYERS = {
    "batch": lambda: nn.BatchNorm2d(8),
    "subclass": lambda: Subclass(8),
    "with its own forward": lambda: WithForward(8),
    "plain": lambda: nn.BatchNorm2d(8, affine=False),
    "no-bias": lambda: nn.BatchNorm2d(8, bias=False),
    "untracked": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "cumulative": lambda: nn.BatchNorm2d(8, momentum=None),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    "instance, untracked": lambda: nn.InstanceNorm2d(8),
    "zca": lambda: ZCAWhitening(8, group_size=4),
    "pca": lambda: PCADenoising(8, components=3),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_synchronised_layer_is_the_layer_in_one_process(layer: str):
    torch.manual_seed(0)
    alone = LAYERS[layer]().double()
    together = synchronise(copy.deepcopy(alone))
    assert type(together) is not type(alone) or together.synchronised
    x, grad_output = torch.randn(2, 6, 8, 3, 3, dtype=torch.float64)
    results = []
    for module in (alone, together):
        leaf = (1000 + x).requires_grad_()
        y = module(leaf)
        (y * grad_output).sum().backward()
        results.append(
            [y, leaf.grad, *(each.grad for each in module.parameters()), *module.state_dict().values(), module.eval()(x)]
        )
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layer", ["batch", "instance", "dropout", "zca"])
def test_a_synchronised_network_is_pickled_and_copied(layer: str):
    torch.manual_seed(0)
    made = nn.Dropout(0.5) if layer == "dropout" else LAYERS[layer]()
    network = synchronise(nn.Sequential(made))
    x = torch.randn(6, 8, 3, 3)
    network(x)
    for again in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert type(again[0]) is type(network[0]) and again[0].synchronised
        seeded = []
        for each in (copy.deepcopy(network), again):
            torch.manual_seed(1)
            seeded.append((each(x), *each.state_dict().values(), each.eval()(x)))
        torch.testing.assert_close(*seeded, rtol=0, atol=0)


def test_a_large_variance_counts_in_float16_as_in_one_process():
    x = 300 * torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).half()
    alone = nn.BatchNorm1d(8).half()
    together = synchronise(copy.deepcopy(alone))
    alone(x), together(x)
    assert_near(together.running_var, alone.running_var)


def test_batch_norm_of_vectors_and_in_half_precision():
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    alone = nn.BatchNorm1d(8)
    together = synchronise(copy.deepcopy(alone))
    torch.testing.assert_close(together(x), alone(x))
    y = synchronise(nn.BatchNorm2d(8))(x[:, :, None, None].bfloat16())
    assert y.dtype == torch.bfloat16


def test_dropout_scales_what_it_keeps_and_leaves_the_generator_at_one_place():
    dropout, x = synchronise(nn.Dropout(0.25)), torch.ones(40, 100)
    torch.manual_seed(0)
    first, after = dropout(x), torch.get_rng_state()
    assert first.unique().tolist() == pytest.approx([0, 4 / 3]) and abs(first.mean() - 1) < 0.05
    assert not torch.equal(dropout(x), first)
    torch.manual_seed(0)
    dropout(x[:7])
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(dropout.eval()(x), x)


def test_one_process_is_the_first_of_one():
    assert (rank(), replicas()) == (0, 1)


def test_a_single_value_in_a_channel_of_the_whole_batch_is_refused():
    x = torch.randn(1, 8)
    for layer in (nn.BatchNorm1d(8), ZCAWhitening(8), PCADenoising(8, 3)):
        module, state = synchronise(layer), copy.deepcopy(layer.state_dict())
        with pytest.raises(ValueError, match=r"more than (1 value|one position) per channel"):
            module(x)
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dropout", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_every_dropout_is_its_own_but_for_the_numbers(dropout: type[nn.Module], probability: float):
    torch.manual_seed(0)
    x = torch.randn(4, 8, 5, 5)
    y = synchronise(dropout(probability))(x)
    assert y.isfinite().all()
    if probability == 0.0:
        assert torch.equal(y, x)
    elif probability == 1.0:
        assert torch.equal(y, dropout(1.0)(x))
    else:
        assert y.unique().numel() < x.numel() and not torch.equal(y, x)
