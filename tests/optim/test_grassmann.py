"""SGD-G and Adam-G: the published code's numbers, the paper's formulas in float64, and what torch expects of an optimiser."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spectral_repro.optim import SGDG, AdamG
from spectral_repro.optim.grassmann import Grassmann
from tests.golden_numbers import golden_numbers
from tests.tolerance import assert_near, tolerance

OPTIMIZERS = pytest.mark.parametrize("optimizer", [SGDG, AdamG])
FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def weights(*shape: int, dtype: torch.dtype = torch.float64, memory_format=torch.contiguous_format) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, dtype=dtype).contiguous(memory_format=memory_format))


def lengths(weight: Tensor) -> Tensor:
    return weight.detach().double().flatten(1).norm(dim=1)


def step(optimizer: Grassmann, *gradients: Tensor) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone(memory_format=torch.preserve_format)
    optimizer.step()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert torch.equal(parameter.grad, gradient), "a step changes no gradient"


@FORMATS
@pytest.mark.parametrize("omega", ["0.0", "0.1"])
@OPTIMIZERS
def test_ten_steps_of_the_published_code(optimizer, omega, memory_format):
    """Which adds 1e-8 to the lengths that it divides by; gradients are clipped to the length grad_clip."""
    golden = golden_numbers(f"cho2017_{optimizer.__name__.lower()}_omega{omega}")
    value = {key: number.item() for key, number in golden.items() if not number.dim()}
    weight = nn.Parameter(golden["w0"].clone(memory_format=memory_format))
    shift, linear = nn.Parameter(golden["bn0"].clone()), nn.Parameter(golden["fc0"].clone())
    groups = [
        {"params": [weight], "grassmann": True, "lr": value["lrg"]},
        {"params": [shift], "weight_decay": value["bn_decay"]},
        {"params": [linear], "weight_decay": value["weight_decay"]},
    ]
    made = optimizer(groups, **{key: value[key] for key in ("lr", "momentum", "omega", "grad_clip")})
    for index in range(10):
        step(made, *(golden[key][index] for key in ("grads_w", "grads_bn", "grads_fc")))
        torch.testing.assert_close(weight.detach(), golden["w"][index], rtol=0, atol=10 * 1e-8 / value["grad_clip"])
    assert_near(shift.detach(), golden["bn"], terms=100)
    assert_near(linear.detach(), golden["fc"], terms=100)


def tangent_descent(y: Tensor, g: Tensor, omega: float, limit: float | None) -> Tensor:
    """The regulariser by automatic differentiation, the clipping row by row."""
    y = y.clone().requires_grad_()
    penalty = omega / 2 * (y @ y.T - torch.eye(len(y), dtype=y.dtype)).square().sum()
    g, y = g + torch.autograd.grad(penalty, y)[0], y.detach()
    h = g - (y * g).sum(1, keepdim=True) * y
    return h if limit is None else torch.stack([row * min(1.0, limit / row.norm().item()) for row in h])


def along(y: Tensor, d: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row: where d leads from y, and a vector carried there, its part along d turned with it."""
    there, carried = [], []
    for point, direction, vector in zip(y, d, vectors, strict=True):
        t = direction.norm().item()
        u = direction / t
        there.append(point * math.cos(t) + u * math.sin(t))
        carried.append(vector + (vector @ u) * (u * (math.cos(t) - 1) - point * math.sin(t)))
    return torch.stack(there), torch.stack(carried)


def sgdg_by_the_paper(y: Tensor, gradients: Tensor, lr: float, omega: float, limit: float | None) -> list[Tensor]:
    m, trajectory = torch.zeros_like(y), []
    for g in gradients:
        m = 0.9 * m - lr * tangent_descent(y, g, omega, limit)
        y, m = along(y, m, m)
        trajectory.append(y)
    return trajectory


def adamg_by_the_paper(y: Tensor, gradients: Tensor, lr: float, omega: float, limit: float | None) -> list[Tensor]:
    m, v, trajectory = torch.zeros_like(y), torch.zeros_like(y[:, :1]), []
    for k, g in enumerate(gradients, start=1):
        h = tangent_descent(y, g, omega, limit)
        m = 0.9 * m + 0.1 * h
        v = 0.99 * v + 0.01 * h.square().sum(1, keepdim=True)
        y, m = along(y, -lr * math.sqrt(1 - 0.99**k) / (1 - 0.9**k) * m / (v + 1e-8).sqrt(), m)
        trajectory.append(y)
    return trajectory


@FORMATS
@pytest.mark.parametrize(("omega", "limit"), [(0.0, None), (0.3, 0.1), (0.3, None)])
@pytest.mark.parametrize(("optimizer", "by_the_paper"), [(SGDG, sgdg_by_the_paper), (AdamG, adamg_by_the_paper)])
def test_trajectory_of_the_formulas(optimizer, by_the_paper: Callable, omega, limit, memory_format, monkeypatch):
    """Steps of up to several radians; the rows are taken two at a time."""
    monkeypatch.setattr("spectral_repro.optim.grassmann.BLOCK", 64)
    weight, gradients = weights(5, 3, 3, 3, memory_format=memory_format), torch.randn(12, 5, 3, 3, 3, dtype=torch.float64)
    made = optimizer([weight], lr=0.2, grassmann=True, omega=omega, grad_clip=limit)
    expected = by_the_paper(weight.detach().flatten(1), gradients.flatten(2), 0.2, omega, limit)
    for gradient, y in zip(gradients, expected, strict=True):
        step(made, gradient)
        torch.testing.assert_close(weight.detach().flatten(1), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@OPTIMIZERS
def test_other_parameters_follow_nesterov_sgd(optimizer, decay):
    own, other = weights(4, 3, 2, 2), weights(4, 3, 2, 2)
    other.data.copy_(own.data)
    made = optimizer([own], lr=0.1, weight_decay=decay)
    reference = torch.optim.SGD([other], lr=0.1, momentum=0.9, weight_decay=decay, nesterov=True, foreach=False)
    for _ in range(5):
        gradient = torch.randn_like(own)
        step(made, gradient)
        other.grad = gradient
        reference.step()
        assert_near(own.detach(), other.detach(), terms=5)


@pytest.mark.parametrize("grassmann", [True, False])
@OPTIMIZERS
def test_memory_formats_may_be_mixed(optimizer, grassmann):
    """Weights, gradients and state each in another one: a state from a run in the other format is taken on."""
    options = {"lr": 0.1, "grassmann": grassmann}
    first = weights(6, 4, 3, 3)
    second = nn.Parameter(first.detach().contiguous(memory_format=torch.channels_last))
    made, gradient = optimizer([first], **options), torch.randn(6, 4, 3, 3, dtype=torch.float64)
    other = optimizer([second], **options)
    step(made, gradient)
    step(other, gradient)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    for index in range(3):
        gradient = torch.randn_like(first)
        step(made, gradient)
        step(other, gradient.contiguous(memory_format=torch.channels_last) if index else gradient)
    assert_near(first.detach(), second.detach(), terms=3 * 36)
    assert second.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 5), (6, 1, 3, 3), (3, 4, 1, 1), (2, 3, 2, 2, 2)])
@OPTIMIZERS
def test_rows_of_any_shape_come_to_the_sphere_and_stay(optimizer, shape):
    weight = weights(*shape, dtype=torch.float32)
    made = optimizer([weight], lr=0.2, grassmann=True)
    for _ in range(20):
        assert (lengths(weight) - 1).abs().max() < tolerance(torch.float32)
        step(made, torch.randn_like(weight))


@OPTIMIZERS
def test_rows_of_zeros_and_gradients_of_zeros(optimizer):
    weight = weights(4, 3, 3, 3)
    weight.data[1] = 0
    made = optimizer([weight], lr=0.2, grassmann=True, omega=0.0)
    assert (weight[1] == 27**-0.5).all()
    before = weight.detach().clone()
    step(made, torch.zeros_like(weight))
    assert torch.equal(weight, before)
    for _ in range(5):
        step(made, torch.randn_like(weight))
    torch.testing.assert_close(lengths(weight), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@OPTIMIZERS
def test_state_is_of_the_dtype_of_the_parameter(optimizer, dtype):
    weight, bias = weights(4, 3, 3, 3, dtype=dtype), weights(4, dtype=dtype)
    made = optimizer([{"params": [weight], "grassmann": True}, {"params": [bias]}], lr=0.1)
    step(made, torch.randn_like(weight), torch.randn_like(bias))
    tensors = [value for state in made.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert len(tensors) >= 2 and {tensor.dtype for tensor in tensors} == {dtype}
    assert (lengths(weight) - 1).abs().max() < 4 * torch.finfo(dtype).eps


def network() -> nn.Sequential:
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 5)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def made_for(model: nn.Sequential, optimizer: type[Grassmann], **options) -> Grassmann:
    others = [parameter for name, parameter in model.named_parameters() if name != "0.weight"]
    groups = [{"params": [model[0].weight], "grassmann": True, "lr": 0.2}, {"params": others}]
    return optimizer(groups, lr=0.05, weight_decay=1e-3, **options)


def loss_of(model: nn.Sequential, index: int) -> Tensor:
    generator = torch.Generator().manual_seed(index)
    images, labels = torch.randn(8, 3, 4, 4, generator=generator), torch.randint(5, (8,), generator=generator)
    return nn.functional.cross_entropy(model(images), labels)


def train(model: nn.Sequential, optimizer: Grassmann, steps: range) -> None:
    for index in steps:
        optimizer.zero_grad()
        loss_of(model, index).backward()
        optimizer.step()


def assert_same(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@OPTIMIZERS
def test_a_loaded_state_dict_gives_the_same_bits(optimizer, tmp_path):
    model = network()
    made = made_for(model, optimizer)
    train(model, made, range(3))
    torch.save({"model": model.state_dict(), "optimizer": made.state_dict()}, tmp_path / "state.pt")
    train(model, made, range(3, 6))
    state, again = torch.load(tmp_path / "state.pt", weights_only=True), network()
    resumed = made_for(again, optimizer)
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    train(again, resumed, range(3, 6))
    assert_same(model, again)


@OPTIMIZERS
def test_closure(optimizer):
    model = network()
    twin = copy.deepcopy(model)
    made, other = made_for(model, optimizer), made_for(twin, optimizer)

    def closure() -> Tensor:
        made.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    expected = loss_of(twin, 0).item()
    assert made.step(closure).item() == expected
    train(twin, other, range(1))
    for first, second in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(first, second)


@OPTIMIZERS
def test_gradient_scaler_and_autocast(optimizer):
    """A scale that is a power of 2 changes no bit; a gradient that is not finite is a step that does not happen."""
    model = network()
    twin = copy.deepcopy(model)
    made, other = made_for(model, optimizer), made_for(twin, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for index in range(3):
        made.zero_grad()
        scaler.scale(loss_of(model, index)).backward()
        with torch.autocast("cpu", torch.bfloat16):
            scaler.step(made)
        scaler.update()
    train(twin, other, range(3))
    assert_same(model, twin)
    model[0].weight.grad[0, 0, 0, 0] = torch.inf
    before = copy.deepcopy(model)
    scaler.scale(torch.zeros(()))
    scaler.step(made)
    assert_same(model, before)


@OPTIMIZERS
def test_forgetting_at_a_new_learning_rate_is_a_new_optimizer(optimizer):
    model = network()
    twin, remembering = copy.deepcopy(model), copy.deepcopy(model)
    made, other = made_for(model, optimizer, reset_on_lr_change=True), made_for(twin, optimizer)
    plain = made_for(remembering, optimizer)
    for trained, by in ((model, made), (twin, other), (remembering, plain)):
        train(trained, by, range(3))
    assert_same(model, twin)
    other = made_for(twin, optimizer)
    for by in (made, other, plain):
        for group in by.param_groups:
            group["lr"] *= 0.2
    for trained, by in ((model, made), (twin, other), (remembering, plain)):
        train(trained, by, range(3, 6))
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=1e-6)
    assert (model[0].weight - remembering[0].weight).abs().max() > 1e-3


@OPTIMIZERS
def test_a_step_never_waits_for_the_device(optimizer):
    """On the meta device there are no values, so whatever asks for one fails."""
    with torch.device("meta"):
        weight, bias = nn.Parameter(torch.empty(4, 3, 3, 3)), nn.Parameter(torch.empty(4))
    made = optimizer([{"params": [weight], "grassmann": True, "omega": 0.0}, {"params": [bias]}], lr=0.1)
    for _ in range(2):
        weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
        made.step()
    assert weight.is_meta and made.state[weight]


@OPTIMIZERS
def test_a_parameter_without_gradient_is_left_alone(optimizer):
    first, second = weights(4, 3, 3, 3), weights(4, 3, 3, 3)
    made = optimizer([first, second], lr=0.1, grassmann=True)
    before = second.detach().clone()
    first.grad = torch.randn_like(first)
    made.step()
    assert torch.equal(second, before) and second not in made.state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, r"lr=-1\.0: must be >= 0"),
        ({"momentum": 1.0}, r"momentum=1\.0: must be in \[0, 1\)"),
        ({"omega": -0.1}, r"omega=-0\.1: must be >= 0"),
        ({"weight_decay": -1e-3}, r"weight_decay=-0\.001: must be >= 0"),
        ({"grad_clip": 0.0}, r"grad_clip=0\.0: must be > 0, or None"),
    ],
)
@OPTIMIZERS
def test_values_out_of_range(optimizer, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        optimizer([weights(4, 3)], **options)


@pytest.mark.parametrize(("options", "message"), [({"beta2": 1.0}, r"beta2=1\.0"), ({"eps": 0.0}, r"eps=0\.0")])
def test_values_of_adam_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}: must be"):
        AdamG([weights(4, 3)], **options)


@OPTIMIZERS
def test_a_vector_has_no_rows(optimizer):
    with pytest.raises(ValueError, match=r"^grassmann=True: a parameter of shape \(4,\) has no rows"):
        optimizer([weights(4)], grassmann=True)


@OPTIMIZERS
def test_a_gradient_whose_length_overflows_is_clipped(optimizer):
    weight = weights(4, 8, dtype=torch.float32)
    made = optimizer([weight], lr=0.1, grassmann=True, omega=0.0, grad_clip=0.1)
    for _ in range(2):
        step(made, 1e20 * torch.randn(4, 8))
    assert_near(lengths(weight), torch.ones(4, dtype=torch.float64), dtype=torch.float32)
    assert all(value.isfinite().all() for value in made.state[weight].values() if isinstance(value, Tensor))
