"""Muon: its formulas by the singular value decomposition, torch's own Muon, and the dense operators of convolutions."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError
from spectral_repro.linalg import conv_singular_values
from spectral_repro.models import resnet18, resnext50_32x4d
from spectral_repro.optim import Muon, muon
from spectral_repro.training.build import build_model, build_optimizer
from tests.tolerance import relative_error, tolerance

TAYLOR = {"ns_coefficients": (15 / 8, -10 / 8, 3 / 8), "ns_steps": 40}  # to the polar factor itself


def weights(*shape: int, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, dtype=dtype))


def steps(optimizer: torch.optim.Optimizer, *gradients: list[Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for several in gradients:
        for parameter, gradient in zip(parameters, several, strict=True):
            parameter.grad = gradient.clone(memory_format=torch.preserve_format)
        optimizer.step()
        for parameter, gradient in zip(parameters, several, strict=True):
            assert torch.equal(parameter.grad, gradient), "a step changes no gradient"


def polar(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("shape", "groups"), [((6, 3, 2, 2), 1), ((16, 2, 1, 3), 2), ((4, 5, 1, 1), 1)])
def test_flattened_kernels_follow_the_formulas(shape, groups, memory_format):
    """Two weights of one shape, each with its own momentum."""
    own = [nn.Parameter(torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format)) for _ in range(2)]
    expected = [parameter.detach().clone() for parameter in own]
    gradients = torch.randn(5, 2, *shape, dtype=torch.float64)
    made = Muon(own, lr=0.1, momentum=0.8, weight_decay=0.3, groups=groups, **TAYLOR)
    moments = [torch.zeros(shape, dtype=torch.float64) for _ in own]
    for both in gradients:
        steps(made, [gradient.contiguous(memory_format=memory_format) for gradient in both])
        for weight, moment, gradient in zip(expected, moments, both, strict=True):
            moment.mul_(0.8).add_(gradient)
            weight.mul_(1 - 0.1 * 0.3)
            for rows, update in zip(weight.chunk(groups), (gradient + 0.8 * moment).chunk(groups), strict=True):
                matrix = update.flatten(1)
                scale = math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))
                rows.sub_(0.1 * scale * polar(matrix).view(update.shape))
    torch.testing.assert_close([parameter.detach() for parameter in own], expected)
    assert all(parameter.is_contiguous(memory_format=memory_format) for parameter in own)


@pytest.mark.parametrize("shape", [(6, 6), (4, 12), (12, 4)])
def test_matrices_follow_the_muon_of_torch(shape):
    """Which computes in bfloat16: the same singular vectors, and singular values of one size."""
    orthogonal = nn.init.orthogonal_(torch.empty(shape))
    own, other = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
    mine, theirs = Muon([own], lr=0.1, momentum=0.9, weight_decay=0.2), torch.optim.Muon([other], 0.1, 0.2, momentum=0.9)
    for scale in (1.0, 0.5, 0.2):
        gradient = scale * (orthogonal + 0.2 * torch.randn(shape) / math.sqrt(max(shape)))
        steps(mine, [gradient])
        steps(theirs, [gradient])
    assert relative_error(own.detach(), other.detach()) < tolerance(torch.bfloat16)


def dense(kernel: Tensor, size: int, stride: int, groups: int) -> Tensor:
    """The matrix of a convolution with circular padding."""
    channels = kernel.shape[1] * groups
    images = torch.eye(channels * size * size, dtype=kernel.dtype).view(-1, channels, size, size)
    padded = nn.functional.pad(images, (0, kernel.shape[3] - 1, 0, kernel.shape[2] - 1), mode="circular")
    return nn.functional.conv2d(padded, kernel, stride=stride, groups=groups).flatten(1).T


@pytest.mark.parametrize(
    ("shape", "stride", "groups"),
    [((4, 3, 3, 3), 1, 1), ((2, 3, 3, 3), 1, 1), ((6, 3, 2, 3), 1, 2), ((2, 3, 3, 3), 2, 1), ((16, 2, 2, 2), 2, 1)],
)
def test_an_operators_step_is_the_kernel_nearest_to_its_polar_factor(shape, stride, groups):
    """Of the dense matrix, for a map of ``frequencies`` pixels after the convolution; by least squares."""
    update = torch.randn(shape, dtype=torch.float64)
    both = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for _ in range(2)]
    options = {"lr": 1.0, "momentum": 0.0, "kernels": "operator", "frequencies": 4}
    steps(Muon(both, **options, stride=stride, groups=groups, **TAYLOR), [update, update.flip(0)])
    size = 4 * stride
    units = torch.eye(update.numel(), dtype=torch.float64).view(-1, *shape)
    operators = torch.stack([dense(unit, size, stride, groups).flatten() for unit in units], -1)
    scale = math.sqrt(max(1, shape[0] / groups / (shape[1] * stride**2)))
    for parameter, gradient in zip(both, (update, update.flip(0)), strict=True):
        factor = polar(dense(gradient, size, stride, groups))
        nearest = torch.linalg.lstsq(operators, factor.flatten()[:, None]).solution[:, 0].view(shape)
        torch.testing.assert_close(-parameter.detach() / scale, nearest, rtol=1e-6, atol=1e-6)


def test_the_operators_step_has_a_flatter_spectrum_than_that_of_the_flattened_kernel():
    """Of a gradient of low rank, as those of convolutions are: all its directions get through, none is amplified."""
    rank_4 = torch.einsum("orxy,ri->oixy", torch.randn(16, 4, 3, 3), torch.randn(4, 16)) + 0.1 * torch.randn(16, 16, 3, 3)
    spread = {}
    for kernels in ("flattened", "operator"):
        weight = nn.Parameter(torch.zeros(16, 16, 3, 3))
        steps(Muon([weight], lr=1.0, kernels=kernels), [rank_4])
        values = conv_singular_values(weight.detach(), 8)
        spread[kernels] = (values[0] / values.median()).item()
    assert spread["operator"] < 3 < 10 < spread["flattened"]


def test_kernels_of_one_dimension_and_of_one_tap():
    """Conv1d is Conv2d of height 1; one tap is a matrix, in either form."""
    line, one, gradient = weights(4, 3, 5), weights(4, 3, 1, 1), torch.randn(4, 3, 5, dtype=torch.float64)
    flat, other = nn.Parameter(line.detach()[:, :, None].clone()), nn.Parameter(one.detach().clone())
    steps(Muon([line, one], kernels="operator", frequencies=5), [gradient, gradient[:, :, :1, None]])
    with_height = {"params": [flat], "kernels": "operator", "frequencies": 5}
    steps(Muon([with_height, {"params": [other]}]), [gradient[:, :, None], gradient[:, :, :1, None]])
    assert torch.equal(line[:, :, None], flat) and torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernels", ["flattened", "operator"])
def test_weights_of_half_precision(kernels, dtype):
    """The polar factor is computed in float32."""
    half = weights(6, 4, 3, 3, dtype=dtype)
    full, gradient = nn.Parameter(half.detach().float()), torch.randn(6, 4, 3, 3, dtype=dtype)
    made = Muon([half], lr=0.5, kernels=kernels)
    steps(made, [gradient])
    steps(Muon([full], lr=0.5, kernels=kernels), [gradient.float()])
    assert made.state[half]["momentum_buffer"].dtype == half.dtype == dtype
    torch.testing.assert_close(half.float(), full, rtol=0, atol=tolerance(dtype))


def test_other_parameters_follow_nesterov_sgd_and_zero_gradients_change_nothing():
    matrix, vector, still = weights(4, 3), weights(4), weights(4, 3)
    other, before = nn.Parameter(vector.detach().clone()), [matrix.detach().clone(), still.detach().clone()]
    made = Muon([{"params": [matrix, still]}, {"params": [vector], "use_muon": False, "weight_decay": 0.1}], lr=0.1)
    reference = torch.optim.SGD([other], lr=0.1, momentum=0.95, weight_decay=0.1, nesterov=True)
    for _ in range(3):
        matrix.grad, vector.grad = torch.zeros_like(matrix), torch.randn_like(vector)
        other.grad = vector.grad.clone()
        made.step()
        reference.step()
    torch.testing.assert_close(vector, other)
    assert torch.equal(matrix, before[0]) and torch.equal(still, before[1]) and still not in made.state


@pytest.mark.parametrize("kernels", ["flattened", "operator"])
def test_copies_and_loaded_states_give_the_same_bits(kernels, tmp_path):
    first, gradients = weights(4, 3, 3, 3, dtype=torch.float32), torch.randn(6, 1, 4, 3, 3, 3)
    made = Muon([("weight", first)], kernels=kernels, stride=(2, 1))
    steps(made, *gradients[:3])
    torch.save({"weight": first.detach(), "optimizer": made.state_dict()}, tmp_path / "state.pt")
    copied = copy.deepcopy(made)
    second = copied.param_groups[0]["params"][0]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    third = nn.Parameter(state["weight"])
    resumed = Muon([("weight", third)], kernels=kernels, stride=(2, 1))
    resumed.load_state_dict(state["optimizer"])
    for optimizer in (made, copied, resumed):
        steps(optimizer, *gradients[3:])
    assert torch.equal(first, second) and torch.equal(first, third)


def test_hidden_weights_by_stride_and_groups_and_the_rest_by_sgd():
    model = resnext50_32x4d(width=64)
    made = muon(model.parameters(), model, lr=0.1, muon_lr=0.3, weight_decay=1e-3, bn_decay=1e-4, muon_decay=1e-2)
    rest, vectors, *hidden = made.param_groups
    assert rest["param_names"] == ["classifier.weight"] and not rest["use_muon"]
    assert (rest["lr"], rest["momentum"], rest["weight_decay"], vectors["weight_decay"]) == (0.1, 0.9, 1e-3, 1e-4)
    assert all(parameter.dim() == 1 for parameter in vectors["params"]) and "classifier.bias" in vectors["param_names"]
    modules = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    assert {name for group in hidden for name in group["param_names"]} == set(modules)
    assert len(hidden) == len({(module.stride, module.groups) for module in modules.values()}) > 2
    for group in hidden:
        assert (group["use_muon"], group["lr"], group["momentum"], group["weight_decay"]) == (True, 0.3, 0.95, 1e-2)
        for name in group["param_names"]:
            assert (modules[name].stride, modules[name].groups) == (group["stride"], group["groups"])


def test_convolutions_of_one_and_three_dimensions_have_their_stride_and_groups():
    """The step of a Conv1d is that of a Conv2d of height 1, and the groups of a Conv3d are orthogonalised one by one."""
    line = nn.Conv1d(8, 8, 3, stride=2, groups=4, bias=False, dtype=torch.float64)
    flat = nn.Conv2d(8, 8, (1, 3), stride=(1, 2), groups=4, bias=False, dtype=torch.float64)
    volume = nn.Conv3d(8, 8, 1, stride=2, groups=4, bias=False, dtype=torch.float64)
    point = nn.Conv2d(8, 8, 1, stride=2, groups=4, bias=False, dtype=torch.float64)
    flat.weight.data, point.weight.data = line.weight.data[:, :, None].clone(), volume.weight.data[..., 0].clone()
    for conv, twin, kernels in ((line, flat, "operator"), (line, flat, "flattened"), (volume, point, "flattened")):
        gradient = torch.randn_like(conv.weight)
        for each in (conv, twin):
            steps(muon(each.parameters(), each, kernels=kernels), [gradient.view(each.weight.shape)])
        torch.testing.assert_close(conv.weight.view(twin.weight.shape), twin.weight)


def test_groups_that_are_given_are_split_and_keep_what_they_say():
    model = resnet18(width=8)
    stem, others = [model.stem.weight], [p for p in model.parameters() if p is not model.stem.weight]
    given = [{"params": stem, "lr": 0.05, "use_muon": False}, {"params": others, "lr": 0.2, "muon_momentum": 0.5}]
    made = muon(given, model, lr=0.1, muon_lr=0.3, kernels="operator", frequencies=4)
    found = [(group["use_muon"], group["lr"], group["momentum"], group["kernels"]) for group in made.param_groups]
    assert found[:3] == [(False, 0.05, 0.9, "operator"), (False, 0.2, 0.9, "operator"), (False, 0.2, 0.9, "operator")]
    assert found[3:] == [(True, pytest.approx(0.6), 0.5, "operator")] * 2, "strides of 1 and 2"
    assert given == [{"params": stem, "lr": 0.05, "use_muon": False}, {"params": others, "lr": 0.2, "muon_momentum": 0.5}]


@pytest.mark.parametrize("kernels", ["flattened", "operator"])
def test_it_trains_and_prints_what_is_done_with_each_parameter(kernels, train, capsys):
    overrides = ["optimizer=muon", f"optimizer.kernels={kernels}", "optimizer.muon_lr=0.01", "norm=batch", "trainer.epochs=8"]
    folder = train(*overrides)
    printed = capsys.readouterr().out
    assert f"\nMuon, kernels {kernels}, weight decay 0, learning rate 0.01: " in f"\n{printed}"
    assert "SGD, weight decay 0.0005, learning rate 0.01: " in printed
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("train_loss")]) for row in rows[1:]]
    assert sum(losses[-4:]) / 4 < losses[0] - 0.1


def test_the_configuration_is_checked_before_anything_is_built():
    for override, message in [
        ("optimizer.kernels=both", "optimizer.kernels=both: must be flattened or operator"),
        ("optimizer.frequencies=0", "optimizer.frequencies=0: must be a whole number >= 1"),
        ("optimizer.muon_momentum=1", "optimizer.muon_momentum=1: must be a number >= 0 and < 1"),
        ("optimizer.ns_coefficients=[1,2]", r"optimizer.ns_coefficients=\[1, 2\]: must be a list of 3, each a number"),
    ]:
        with pytest.raises(UserError, match=message):
            check(compose(["optimizer=muon", override]))
    config = compose(["optimizer=muon", "optimizer.kernels=operator", "model.width=8"])
    assert isinstance(build_optimizer(config, build_model(config)), Muon)
