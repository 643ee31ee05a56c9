"""Layers as linear operators: which are found, and their norms and bounds against what torch computes."""

import pytest
import torch
from torch import nn

from spectral_repro.constraints.operators import Operator, operators
from spectral_repro.layers import orthogonal_penalty
from spectral_repro.linalg import conv_norm, conv_power_iteration


def jacobian_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The spectral norm of a layer by automatic differentiation."""
    jacobian = torch.autograd.functional.jacobian(layer.double(), torch.zeros(1, *shape, dtype=torch.float64))
    return torch.linalg.matrix_norm(jacobian.flatten(len(jacobian.shape) // 2).flatten(0, -2), 2).item()


def test_every_linear_layer_is_found_with_what_it_is_given(network):
    network.train()
    found = operators(network, (3, 8, 6))
    assert [(each.name, each.size) for each in found] == [
        ("0", (8, 6)),
        ("3", (8, 6)),
        ("4", (4, 3)),
        ("5", (4, 3)),
        ("5.reduction", (4, 3)),
        ("5.core", (4, 3)),
        ("5.expansion", (4, 3)),
        ("7", (1, 1)),
    ]
    assert network.training and not any(layer._forward_pre_hooks for layer in network.modules())
    assert network[1].num_batches_tracked == 0


def test_both_values_are_those_of_the_layer(network):
    generator = torch.Generator().manual_seed(0)
    for operator in operators(network.double(), (3, 8, 6)):
        start = operator.random_input(generator)
        power, _ = conv_power_iteration(operator.weight, start, **operator.padded, iterations=300)
        shape = start[0, :, 0, 0].shape if isinstance(operator.layer, nn.Linear) else start[0].shape
        assert power.item() == pytest.approx(jacobian_norm(operator.layer, shape), rel=1e-3)
        assert power <= conv_norm(operator.weight, **operator.circular) * (1 + 1e-9)


def test_the_weight_is_the_parameter_itself(network):
    for operator in operators(network, (3, 8, 6)):
        if operator.name != "5":
            operator.weight.zero_()
            assert not operator.layer.weight.any() and operator.layer.weight.requires_grad


@pytest.mark.parametrize(
    ("conv", "size", "circular"),
    [
        (nn.Conv2d(1, 1, 3, 2, 1), (7, 8), (8, 8)),
        (nn.Conv2d(1, 1, 3, 1, 1), (3, 4), (3, 4)),
        (nn.Conv2d(1, 1, 5, padding="same"), (4, 5), (6, 5)),
        (nn.Conv2d(1, 1, 1, 2), (5, 5), (6, 6)),
    ],
)
def test_the_size_of_the_circular_operator(conv, size, circular):
    """One that the stride divides."""
    assert Operator("conv", conv, size).circular["input_size"] == circular


@pytest.mark.parametrize(
    ("conv", "size", "circular"),
    [(nn.Conv2d(1, 1, 3, 1, 1), (2, 1), (3, 2)), (nn.Conv2d(1, 1, 3, 2, 1), (2, 2), (4, 4))],
)
def test_on_a_map_smaller_than_the_kernel_it_bounds_that_of_the_layer(conv, size, circular):
    operator = Operator("conv", conv.double(), size)
    assert operator.circular["input_size"] == circular
    for _ in range(20):
        nn.init.normal_(conv.weight)
        exact = jacobian_norm(conv, (1, *size))
        assert exact <= conv_norm(operator.weight, **operator.circular).item() * (1 + 1e-9)


class Frozen(nn.BatchNorm2d):
    """A batch norm that stays in evaluation mode."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("cannot")


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_keeps_its_mode(fails: bool):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Frozen(4), nn.BatchNorm2d(4).eval(), nn.Dropout(), nn.BatchNorm2d(4))
    network[1].training = True
    if fails:
        network.append(Failing())
    before = [module.training for module in network.modules()]
    if fails:
        with pytest.raises(RuntimeError, match="cannot"):
            operators(network, (3, 8, 6))
    else:
        operators(network, (3, 8, 6))
    assert [module.training for module in network.modules()] == before == [True, True, True, False, True, True] + fails * [True]
    assert not any(module._forward_pre_hooks for module in network.modules()) and not network[4].num_batches_tracked


def test_a_layer_with_inputs_of_several_sizes_is_an_operator_for_each():
    conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    found = operators(nn.Sequential(conv, nn.AvgPool2d(2), conv, conv), (3, 8, 6))
    assert [(each.name, each.size) for each in found] == [("0", (8, 6)), ("0", (4, 3))]
    assert len({each.key for each in found}) == 2


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_the_norm_bounds_that_of_the_layer_with_every_padding(mode: str):
    for options in ({"padding": 1}, {"padding": 1, "stride": 2}, {"padding": (2, 1)}, {"padding": "same", "dilation": (2, 1)}):
        torch.manual_seed(0)
        conv = nn.Conv2d(2, 3, 3, padding_mode=mode, bias=False, **options).double()
        operator = Operator("conv", conv, (5, 6))
        exact = jacobian_norm(conv, (2, 5, 6))
        assert exact <= operator.norm().item() * (1 + 1e-9) <= 3.1 * exact
        if mode == "circular" and options["padding"] != (2, 1) and "stride" not in options:
            assert operator.norm().item() == pytest.approx(exact)
        start = operator.random_input(torch.Generator().manual_seed(0))
        power, _ = conv_power_iteration(operator.weight, start, **operator.padded, iterations=300)
        assert power.item() == pytest.approx(exact, rel=1e-3)


def test_a_network_without_parameters_has_no_operators_and_no_penalty():
    network = nn.Sequential(nn.ReLU())
    assert operators(network, (3, 8, 8)) == [] and orthogonal_penalty(network) == 0
