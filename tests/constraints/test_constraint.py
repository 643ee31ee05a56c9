"""Common behaviour of constraints: when they act, and on which layers."""

import math

import pytest
import torch
from torch import nn

from spectral_repro.constraints import Clip, DivideByExactLargest, DivideByLargest, DivideEachByLargest, OrthogonalPenalty
from spectral_repro.constraints.constraint import batch_norm_factor
from spectral_repro.constraints.operators import operators
from spectral_repro.layers import PCADenoising, TTConv2d, ZCAWhitening
from spectral_repro.linalg import conv_norm
from tests.golden_numbers import EVERY_SEED, golden_numbers

EVERY_KIND = pytest.mark.parametrize("kind", [Clip, DivideByExactLargest, DivideByLargest, DivideEachByLargest])


def norms(network: nn.Module) -> dict[str, float]:
    found = operators(network, (3, 8, 6))
    return {operator.name: conv_norm(operator.weight, **operator.circular).item() for operator in found}


def snapshot(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def unchanged(network: nn.Module, before: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True)]


@EVERY_KIND
def test_constraints_act_every_n_steps(kind, network, make):
    constraint, before = make(kind, clip_to=0.5, every=3), snapshot(network)
    for step in (1, 2, 4):
        constraint.apply(step)
    assert all(unchanged(network, before))
    constraint.apply(6)
    assert not all(unchanged(network, before))


@EVERY_KIND
def test_linear_layers_and_batch_norms_only_where_they_are_named(kind, network, make):
    before = network[7].weight.detach().clone(), network[1].weight.detach().clone()
    make(kind, clip_to=0.5).apply(1)
    assert torch.equal(network[7].weight, before[0]) and torch.equal(network[1].weight, before[1])
    bounded = make(kind, clip_to=0.5, linear_to=0.25, batch_norm_to=0.75, batch_norm_every=20)
    for step in range(1, 21):
        bounded.apply(step)
    assert norms(network)["7"] == pytest.approx(0.25, rel=1e-3)
    assert batch_norm_factor(network[1]).item() == pytest.approx(0.75, rel=1e-5)


@EVERY_KIND
def test_frozen_weights_are_left_as_they_are(kind, network, make):
    for layer in (network[0], network[5].reduction):
        layer.weight.requires_grad_(False)
    before = snapshot(network)
    make(kind, clip_to=0.5).apply(1)
    frozen = [not parameter.requires_grad for parameter in network.parameters()]
    changed = [not same for same in unchanged(network, before)]
    assert any(changed) and not any(each and moved for each, moved in zip(frozen, changed, strict=True))


@EVERY_KIND
def test_an_argument_out_of_range_is_named(kind, make):
    wrong = [("clip_to", -1.0), ("clip_to", 0.0), ("clip_to", math.nan), ("linear_to", 0.0), ("batch_norm_to", -1.0)]
    wrong += [("every", 0), ("every", 1.5), ("batch_norm_every", 0)]
    wrong += {Clip: [("rounds", 0), ("tolerance", -1.0)], DivideByLargest: [("iterations", 0)]}.get(kind, [])
    counts = ("every", "batch_norm_every", "rounds", "iterations")
    for name, value in wrong:
        allowed = "a whole number >= 1" if name in counts else "a number >"
        with pytest.raises(ValueError, match=f"{name}={value}: must be {allowed}"):
            make(kind, **{"clip_to": 0.5, name: value})


@EVERY_KIND
def test_a_network_without_gradient_history(kind, network, make):
    """Parameters stay leaves, and the next backward pass works."""
    make(kind, clip_to=0.5, linear_to=0.5, batch_norm_to=0.5).apply(1)
    network(torch.randn(2, 3, 8, 6)).sum().backward()
    assert all(parameter.is_leaf and parameter.grad is not None for parameter in network.parameters())


@EVERY_KIND
def test_memory_formats_stay(kind, network, make):
    network.to(memory_format=torch.channels_last)
    make(kind, clip_to=0.5).apply(1)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)


@EVERY_SEED
def test_published_batch_norm_division(make, network, seed):
    numbers = golden_numbers("senderovich2022_lip_bn", seed)
    with torch.no_grad():
        network[1].weight.copy_(numbers["weight"])
        network[1].running_var.copy_(numbers["running_var"])
    make(Clip, clip_to=100.0, batch_norm_to=float(numbers["bn_eps"])).apply(1)
    torch.testing.assert_close(network[1].weight.detach(), numbers["divided"], rtol=0, atol=1e-6)


def test_every_batch_norm_and_whitening_layer_is_bounded_unless_it_is_frozen():
    torch.manual_seed(0)
    published = ZCAWhitening(6, 3, truncation="reference", dtype=torch.half)
    norms = [ZCAWhitening(6, 3, shrinkage=0.0), PCADenoising(6, 2), published, nn.BatchNorm1d(6), nn.BatchNorm1d(6)]
    for layer in norms:
        nn.init.uniform_(layer.weight, -1, 1)
        for _ in range(20):
            layer(0.1 * torch.randn(64, 6))
    norms[4].requires_grad_(False)
    before = [layer.weight.detach().clone() for layer in norms]
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *norms)
    Clip(network, (3, 8, 8), orthonormal_frames=False, clip_to=1.0, batch_norm_to=0.5).apply(1)
    assert torch.equal(norms[4].weight, before[4]) and batch_norm_factor(norms[4]) > 0.5
    x, change = torch.randn(2, 50, 6)
    for layer, weight in zip(norms[:4], before[:4], strict=True):
        eps = torch.finfo(weight.dtype).eps
        assert batch_norm_factor(layer).item() == pytest.approx(0.5, rel=4 * eps)
        ratios = layer.weight.detach() / weight
        torch.testing.assert_close(ratios, ratios[:1].expand(6), rtol=8 * eps, atol=0)
        layer.eval()
        assert ((layer(x + change) - layer(x)).norm(dim=1) <= 0.51 * change.norm(dim=1)).all()


def test_a_bound_that_bounds_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^clip_to=1\.0: the network has no nn\.Conv2d, TT layer or bounded linear layer"):
        Clip(nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), (3, 4, 4), orthonormal_frames=False, clip_to=1.0)


def test_a_bound_of_batch_norms_that_bounds_nothing_is_refused(network, make):
    network[1].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"^batch_norm_to=0\.5: the network has no batch norm or whitening layer with running"):
        make(Clip, clip_to=1.0, batch_norm_to=0.5)


def test_frames_are_taken_into_the_core_unless_a_penalty_keeps_them(network, make):
    """Then the bound holds for the whole TT layer; else it is that of the core alone."""
    layer, core = network[5], network[5].core.weight
    kernel = layer.weight.detach().clone()
    make(DivideByExactLargest, clip_to=1e6).apply(1)
    torch.testing.assert_close(layer.weight.detach(), kernel, rtol=1e-4, atol=1e-4)
    for frame in layer.frames:
        torch.testing.assert_close(frame @ frame.mT, torch.eye(4), rtol=0, atol=1e-5)
    make(DivideByExactLargest, clip_to=0.5).apply(1)
    assert norms(network)["5"] == pytest.approx(0.5, rel=1e-4)
    with torch.no_grad():
        layer.reduction.weight.mul_(3)
    frames = [frame.detach().clone() for frame in layer.frames]
    make(DivideByExactLargest, clip_to=0.25, orthonormal_frames=True).apply(1)
    assert all(torch.equal(*pair) for pair in zip(layer.frames, frames, strict=True))
    assert conv_norm(core, (4, 3)).item() == pytest.approx(0.25, rel=1e-4)
    assert norms(network)["5"] == pytest.approx(0.75, rel=1e-4)


def test_each_factor_by_itself(network, make):
    constraint = make(DivideEachByLargest, clip_to=0.5, iterations=50)
    constraint.apply(1)
    found = norms(network)
    assert found["5.reduction"] == pytest.approx(0.5, rel=0.01) and found["5.expansion"] == pytest.approx(0.5, rel=0.01)
    assert 0.5 <= found["5.core"] < 0.7  # with circular padding; without, on a map as small as this, 0.5
    assert found["5"] < 0.2


def test_the_orthogonal_penalty_is_that_of_its_layers():
    torch.manual_seed(0)
    layer = TTConv2d(6, 5, 3, rank=3)
    with torch.no_grad():
        layer.expansion.weight.mul_(2)  # 3 orthonormal columns: |4 I - I|^2 = 27
    penalty = OrthogonalPenalty(orthogonal_k=10.0)(layer)
    assert penalty.item() == pytest.approx(10 * 27 / (2 * 3**2), rel=1e-5) and penalty.requires_grad


@EVERY_KIND
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_the_bound_is_that_of_the_layer_with_its_padding(kind, mode: str):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode), nn.Conv2d(3, 3, 3, 2, 1, padding_mode=mode))
    with torch.no_grad():
        for conv in network:
            conv.weight.mul_(5)
    options = {"iterations": 100} if issubclass(kind, DivideByLargest) else {"rounds": 100} if kind is Clip else {}
    kind(network, (2, 6, 4), False, clip_to=0.5, **options).apply(1)
    for conv, shape in zip(network, ((2, 6, 4), (3, 6, 4)), strict=True):
        jacobian = torch.autograd.functional.jacobian(conv, torch.zeros(1, *shape))
        norm = torch.linalg.matrix_norm(jacobian.flatten(4).flatten(0, 3), 2).item()
        assert 0.1 < norm < (0.57 if mode == "zeros" else 0.51)  # with zeros the circular operator stands for the layer


@EVERY_KIND
def test_a_layer_with_several_input_sizes_keeps_the_bound_at_each(kind):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular", bias=False)
    with torch.no_grad():
        conv.weight.mul_(5)
    options = {"iterations": 200} if issubclass(kind, DivideByLargest) else {"rounds": 200} if kind is Clip else {}
    network = nn.Sequential(conv, nn.AvgPool2d(2), conv)
    kind(network, (3, 6, 10), False, clip_to=0.5, **options).apply(1)
    assert max(conv_norm(conv.weight, (6, 10)), conv_norm(conv.weight, (3, 5))) < 0.51


@EVERY_KIND
def test_a_parametrized_weight_is_refused(kind):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)))
    with pytest.raises(ValueError, match=r"^1: its weight is parametrized and cannot be changed in place"):
        kind(network, (3, 8, 6), False, clip_to=1.0)


def test_a_state_comes_to_the_weights_and_that_of_another_network_is_refused(make):
    first, second = (make(DivideByLargest, clip_to=0.5) for _ in range(2))
    first.apply(1)
    state = {key: vector.double() for key, vector in first.state_dict().items()}
    second.load_state_dict(state)
    assert {vector.dtype for vector in second.memory.values()} == {torch.float32}
    second.apply(2)
    del state["0 8 x 6"]
    with pytest.raises(ValueError, match="of another network or constraint: it differs in 0 8 x 6"):
        second.load_state_dict(state)
