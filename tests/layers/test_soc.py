"""Skew orthogonal convolution against the matrix exponential of the dense operator."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_unshuffle

from spectral_repro.layers import SOC
from tests.tolerance import assert_near

SHAPES = [(4, 4, 3, 1), (3, 5, 3, 1), (5, 3, 3, 1), (2, 5, 3, 2), (2, 9, 1, 2), (5, 3, 1, 1), (1, 3, 5, 3)]


def skew(layer: SOC) -> Tensor:
    weight = layer.weight.detach()
    return 0.5 * (weight - torch.flip(weight.permute(1, 0, 2, 3), dims=(2, 3)))


def unfoldings(kernel: Tensor) -> list[Tensor]:
    """All four of "Fantastic Four"."""
    c, _, k, _ = kernel.shape
    return [
        kernel.permute(0, 2, 1, 3).reshape(c * k, c * k),
        kernel.permute(0, 3, 1, 2).reshape(c * k, c * k),
        kernel.reshape(c, c * k * k),
        kernel.permute(0, 2, 3, 1).reshape(c * k * k, c),
    ]


def generator(layer: SOC, operator, size: int) -> Tensor:
    """The dense matrix of L."""
    kernel = layer.kernel().detach()
    return operator(lambda x: conv2d(x, kernel, padding=layer.kernel_size // 2), layer.channels, size)


def train(layer: nn.Module, x: Tensor, steps: int) -> None:
    """Some steps far from 0, towards a random target."""
    target = torch.randn_like(layer(x).detach())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_exponential_of_a_skew_symmetric_matrix(operator, shape):
    torch.manual_seed(0)
    inputs, outputs, kernel_size, stride = shape
    layer = SOC(inputs, outputs, kernel_size, stride).double().eval()
    size = 6
    matrix = generator(layer, operator, size // stride)
    assert_near(matrix, -matrix.mT)
    x = torch.randn(3, inputs, size, size, dtype=torch.float64)
    moved = pixel_unshuffle(x, stride)
    padded = torch.cat([moved, moved.new_zeros(3, layer.channels - moved.shape[1], *moved.shape[2:])], 1)
    expected = (padded.flatten(1) @ torch.linalg.matrix_exp(matrix).mT).view(padded.shape)[:, :outputs]
    torch.testing.assert_close(layer(x), expected + layer.bias.view(1, -1, 1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_after_training_all_singular_values_are_1(operator, shape):
    torch.manual_seed(1)
    inputs, outputs, kernel_size, stride = shape
    layer = SOC(inputs, outputs, kernel_size, stride).double()
    train(layer, torch.randn(8, inputs, 6, 6, dtype=torch.float64), 20)
    values = torch.linalg.svdvals(operator(layer.eval(), inputs, 6))
    assert (values - 1).abs().max() < 1e-5
    assert values.max() <= layer.lipschitz
    assert kernel_size > 3 or layer.lipschitz < 1 + 1e-4


@pytest.mark.parametrize("terms", [3, 5, 8])
def test_a_shorter_series_is_off_by_its_next_term(operator, terms: int):
    torch.manual_seed(0)
    layer = SOC(4, 4, train_terms=terms).double()
    norm = torch.linalg.matrix_norm(generator(layer, operator, 6), 2).item()
    error = (torch.linalg.svdvals(operator(layer, 4, 6)) - 1).abs().max().item()
    assert 1e-3 * norm ** (terms + 1) / math.factorial(terms + 1) < error <= norm ** (terms + 1) / math.factorial(terms + 1)


def test_it_trains_with_5_terms_and_evaluates_with_12():
    torch.manual_seed(0)
    layer, x = SOC(3, 3).double(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    other = SOC(3, 3, train_terms=12).double()
    other.load_state_dict(layer.state_dict())
    layer(x)
    assert (layer(x) - other(x)).abs().max() > 1e-3
    assert torch.equal(layer.eval()(x), other.eval()(x))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_sigma_is_the_smallest_norm_of_the_four_unfoldings(kernel_size: int):
    torch.manual_seed(0)
    layer = SOC(6, 6, kernel_size).double()
    for _ in range(3):
        layer.reset_parameters()
        sigma = min(torch.linalg.matrix_norm(matrix, 2) for matrix in unfoldings(skew(layer)))
        correction = {1: 1.0, 3: 0.7}[kernel_size]
        torch.testing.assert_close(layer.kernel(), correction * skew(layer) / sigma, rtol=1e-3, atol=0)


def test_two_unfoldings_are_transposes_of_the_others():
    horizontal, vertical, wide, high = (torch.linalg.svdvals(matrix) for matrix in unfoldings(skew(SOC(5, 5))))
    torch.testing.assert_close(horizontal, vertical)
    torch.testing.assert_close(wide, high)


def test_one_power_iteration_per_call_and_new_vectors_every_200():
    torch.manual_seed(0)
    layer, x, moved = SOC(5, 5), torch.randn(2, 5, 4, 4), []
    for _ in range(202):
        before = [layer.v_1.clone(), layer.v_2.clone()]
        with torch.no_grad():
            layer.weight.normal_()
            layer(x)
            once = [matrix @ v @ matrix for v, matrix in zip(before, unfoldings(skew(layer))[::2], strict=True)]
        after = (layer.v_1, layer.v_2)
        moved.append(all(torch.allclose(v, w / w.norm(), atol=1e-5) for v, w in zip(after, once, strict=True)))
    assert [index for index, one in enumerate(moved) if not one] == [0, 200]
    before = layer.state_dict()
    layer.eval()(x)
    assert torch.equal(layer.v_1, before["v_1"])


def test_a_loaded_layer_gives_the_same_bits():
    torch.manual_seed(0)
    layer, x = SOC(4, 6, stride=2), torch.randn(4, 4, 6, 6)
    train(layer, x, 2)
    layer.set_extra_state(torch.tensor(198))
    other = SOC(4, 6, stride=2)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    for one in (layer, other):
        torch.manual_seed(1)
        train(one, x, 5)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in layer.state_dict().items())


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    layer = SOC(1, 3, stride=2).double().eval()
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, weight, bias), fast_mode=True)


def test_two_forward_passes_before_one_backward_pass():
    layer, x = SOC(3, 3), torch.randn(2, 3, 4, 4)
    layer(layer(x)).sum().backward()
    assert layer.weight.grad.any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_formats(memory_format):
    torch.manual_seed(0)
    layer, x = SOC(4, 6, stride=2).eval(), torch.randn(2, 4, 8, 8)
    expected = layer(x)
    y = layer.to(memory_format=memory_format)(x.contiguous(memory_format=memory_format))
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y, expected)


def test_under_autocast_the_kernel_keeps_its_precision():
    torch.manual_seed(0)
    layer, x = SOC(4, 4).eval(), torch.randn(2, 4, 8, 8)
    kernel, y = layer.kernel(), layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.kernel(), kernel)
        torch.testing.assert_close(layer(x).float(), y, rtol=0.05, atol=0.05)


def test_one_channel_is_unchanged():
    """Of a 1 x 1 kernel of one channel the skew part is 0."""
    layer, x = SOC(1, 1, 1, bias=False), torch.randn(2, 1, 3, 3)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y, x) and not layer.weight.grad.any()


def test_the_bound_holds_when_the_estimate_of_the_norm_is_bad(operator):
    torch.manual_seed(0)
    layer = SOC(4, 4).double().eval()
    layer.v_1.mul_(0.3)
    norm = torch.linalg.svdvals(operator(layer, 4, 5)).max()
    assert 1.001 < norm <= layer.lipschitz


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 5)},
        {"kernel_size": 3, "padding": 0},
        {"kernel_size": 3, "padding": "same"},
        {"stride": (1, 2)},
    ],
    ids=str,
)
def test_another_geometry_is_refused(geometry: dict):
    with pytest.raises(ValueError, match="odd square kernel, half of it as padding"):
        SOC(3, 3, **geometry)


def test_another_input_is_refused():
    with pytest.raises(ValueError, match=r"expected \(N, 3, H, W\) with H and W multiples of 2, got \(1, 3, 5, 4\)"):
        SOC(3, 4, stride=2)(torch.zeros(1, 3, 5, 4))


@pytest.mark.parametrize("start", [nn.init.zeros_, nn.init.dirac_])
def test_a_start_without_a_skew_part_trains(operator, start):
    torch.manual_seed(0)
    layer, x = SOC(4, 4).double(), torch.randn(8, 4, 6, 6, dtype=torch.float64)
    start(layer.weight)
    assert torch.equal(layer(x), x + layer.bias[:, None, None])
    assert layer.v_1.any() and layer.v_2.any()
    train(layer, x, 60)
    values = torch.linalg.svdvals(operator(layer.eval(), 4, 6))
    assert layer.weight.isfinite().all() and (values - 1).abs().max() < 1e-4
    assert values.max() <= layer.lipschitz < 1 + 1e-3


def test_reset_parameters_draws_all_weights_again():
    layer = SOC(4, 6, stride=2)
    layer(torch.randn(2, 4, 4, 4))
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert not any(torch.allclose(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.calls == 0


def test_training_compiles_to_one_graph():
    """The counter of the power iteration is no constant of the graph: later steps are compiled no more."""
    torch.compiler.reset()
    torch.manual_seed(0)
    layer = SOC(4, 6, stride=2)
    other, graphs = copy.deepcopy(layer), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for _ in range(3):
        x = torch.randn(2, 4, 6, 6)
        for one in (compiled, other):
            one(x).square().sum().backward()
    assert len(graphs) == 1 and layer.calls == other.calls == 3
    torch.testing.assert_close(layer.weight.grad, other.weight.grad)
    torch.testing.assert_close(layer.v_2, other.v_2)


def test_device_and_dtype():
    layer = SOC(4, 6, device="meta", dtype=torch.float64)
    assert {value.dtype for value in [*layer.parameters(), *layer.buffers()]} == {torch.float64}
    assert layer(torch.empty(2, 4, 5, 5, device="meta", dtype=torch.float64)).shape == (2, 6, 5, 5)


@pytest.mark.parametrize("correction", [0.0, -1.0, math.nan, math.inf])
def test_a_correction_that_is_not_positive_is_refused(correction: float):
    with pytest.raises(ValueError, match=f"correction={correction}: must be a finite number > 0"):
        SOC(3, 3, correction=correction)
