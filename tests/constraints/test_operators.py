"""Layers as linear maps: which there are, and that their bounds are those of what torch computes."""

import pytest
import torch
from torch import nn

from spectral_repro.constraints.operators import Operator, operators
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
