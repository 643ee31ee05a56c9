"""Parametrizations of convolutions against the dense matrices of their operators."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from spectral_repro.layers import SOC, SOTT, export, parametrizations
from spectral_repro.linalg import clip_conv
from spectral_repro.linalg.conv_padding import padded_conv2d

MODES = ["zeros", "reflect", "replicate", "circular"]
GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 2), "padding": (2, 1), "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation": (1, 2)},
    {"kernel_size": 4, "padding": 2},
]
SIZE = (5, 4)


def make(mode: str, geometry: dict, scale: float = 3.0) -> nn.Conv2d:
    """A convolution with large weights, in float64."""
    conv = nn.Conv2d(4, 6, padding_mode=mode, dtype=torch.float64, **geometry)
    with torch.no_grad():
        conv.weight.mul_(scale)
    return conv


def operator(conv: nn.Conv2d, size: tuple[int, int] = SIZE) -> Tensor:
    """The dense matrix of what the layer computes, without its bias."""
    inputs = torch.eye(conv.in_channels * size[0] * size[1], dtype=torch.float64).view(-1, conv.in_channels, *size)
    with torch.no_grad():
        return (conv(inputs) - conv(torch.zeros_like(inputs[:1]))).flatten(1).mT


def norm(conv: nn.Conv2d, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.linalg.matrix_norm(operator(conv, size), 2)


@pytest.mark.parametrize("mode", MODES)
def test_the_norm_of_the_operator_is_bounded(mode: str):
    for geometry in GEOMETRIES:
        torch.manual_seed(0)
        conv = make(mode, geometry)
        weight, before = conv.weight.detach().clone(), norm(conv)
        bound = 0.5 * before.item()
        wide = parametrizations.bounded_norm(copy.deepcopy(conv), SIZE, 2 * before.item())
        torch.testing.assert_close(wide.weight, weight)
        parametrizations.bounded_norm(conv, SIZE, bound, iterations=100)
        assert isinstance(conv, nn.Conv2d)
        torch.testing.assert_close(norm(conv).item(), bound, rtol=0.01, atol=0)


def test_the_bound_holds_through_a_training_and_evaluation_changes_nothing():
    torch.manual_seed(0)
    conv = parametrizations.bounded_norm(make("reflect", GEOMETRIES[1]), SIZE, bound=0.7)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.05, momentum=0.9)
    x = torch.randn(4, 4, *SIZE, dtype=torch.float64)
    for _ in range(50):
        optimizer.zero_grad()
        (conv(x) - 5).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(norm(conv).item(), 0.7, rtol=0.01, atol=0)
    conv.eval()
    vector = conv.parametrizations.weight[0].vector.clone()
    assert torch.equal(conv.weight, conv.weight) and torch.equal(vector, conv.parametrizations.weight[0].vector)


def test_the_gradient_of_the_bounded_weight():
    """At convergence that of w / sigma(w), by finite differences; within the bound that of w."""
    torch.manual_seed(0)
    conv = make("replicate", {"kernel_size": 2})
    parametrization = parametrizations.bounded_norm(conv, (3, 3), 0.5, iterations=200).parametrizations.weight[0]
    weight = conv.parametrizations.weight.original.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: parametrization(w).square().cumsum(0), (weight,), rtol=1e-2, fast_mode=True)


@pytest.mark.parametrize("mode", MODES)
def test_singular_values_are_clipped(mode: str):
    for geometry in GEOMETRIES:
        torch.manual_seed(0)
        conv = make(mode, geometry)
        bound = 0.4 * norm(conv).item()
        few, many = (parametrizations.clipped_singular_values(copy.deepcopy(conv), SIZE, bound, rounds) for rounds in (1, 30))
        assert norm(few) < 1.5 * bound and norm(many) < 1.1 * bound
        assert norm(many) > 0.3 * bound


def test_clipping_is_that_of_clip_conv_and_exact_without_a_crop():
    torch.manual_seed(0)
    conv = make("circular", {"kernel_size": 3, "padding": 1, "groups": 2})
    weight, bound = conv.weight.detach().clone(), 0.5 * norm(conv, (6, 6)).item()
    expected = clip_conv(weight, 6, bound, groups=2, rounds=3)
    found = parametrizations.clipped_singular_values(conv, 6, bound, rounds=3).weight
    torch.testing.assert_close(found, expected)
    whole = make("circular", {"kernel_size": 3, "padding": "same"})
    values = torch.linalg.svdvals(operator(whole, (3, 3)))
    bound = values.median().item()
    parametrizations.clipped_singular_values(whole, 3, bound)
    torch.testing.assert_close(torch.linalg.svdvals(operator(whole, (3, 3))), values.clamp_max(bound))


def test_the_gradient_of_the_clipped_weight_at_ties_too():
    torch.manual_seed(0)
    conv = make("circular", {"kernel_size": 3, "padding": 1})
    parametrization = parametrizations.clipped_singular_values(conv, (3, 4), 1.0).parametrizations.weight[0]
    weight = conv.parametrizations.weight.original.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(parametrization, (weight,), fast_mode=True)
    dirac = 2 * nn.init.dirac_(torch.empty(6, 4, 3, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(parametrization, (dirac.requires_grad_(),), fast_mode=True)


def test_the_tucker_form_of_a_kernel():
    torch.manual_seed(0)
    for geometry in GEOMETRIES:
        conv, x = make("reflect", geometry), torch.randn(2, 4, *SIZE, dtype=torch.float64)
        plain = copy.deepcopy(conv)
        same = parametrizations.tucker(copy.deepcopy(conv), scale=1.0)
        torch.testing.assert_close(same(x), plain(x))
        assert same.parametrizations.weight[0].relative_error < 1e-12
        parametrizations.tucker(conv, rank=2)
        error = torch.linalg.vector_norm(conv.weight - plain.weight) / torch.linalg.vector_norm(plain.weight)
        torch.testing.assert_close(conv.parametrizations.weight[0].relative_error, error.detach())
        shapes = [tuple(p.shape) for p in conv.parametrizations.weight.parameters()]
        assert shapes == [(6, 2), (2, 2, *conv.kernel_size), (plain.weight.shape[1], 2)] and 0 < error < 1
    conv(x).sum().backward()
    assert all(p.grad is not None for p in conv.parameters())


@pytest.mark.parametrize(("channels", "groups"), [((4, 4), 1), ((6, 4), 2), ((4, 6), 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_skew_orthogonal_kernel(channels, groups: int, stride: int):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, 1, stride, groups=groups, dtype=torch.float64)
    left, _, right = torch.linalg.svd(conv.weight.detach().view(groups, -1, channels[0] // groups), full_matrices=False)
    parametrizations.skew_orthogonal(conv)
    torch.testing.assert_close(conv.weight.view_as(left @ right), left @ right)
    start, x = conv.weight.detach().clone(), torch.randn(4, channels[0], *SIZE, dtype=torch.float64)
    optimizer = torch.optim.SGD(conv.parameters(), lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        (conv(x) - 1).square().mean().backward()
        optimizer.step()
    values = torch.linalg.svdvals(operator(conv))
    torch.testing.assert_close(torch.minimum(values, (values - 1).abs()), torch.zeros_like(values), rtol=0, atol=1e-10)
    assert not torch.allclose(conv.weight, start, atol=0.01)


PARAMETRIZATIONS = {
    "bounded_norm": lambda conv: parametrizations.bounded_norm(conv, SIZE, 0.5),
    "clipped_singular_values": lambda conv: parametrizations.clipped_singular_values(conv, SIZE, 0.5),
    "tucker": lambda conv: parametrizations.tucker(conv, rank=2),
    "skew_orthogonal": parametrizations.skew_orthogonal,
}


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_export_saving_and_frozen_weights(name: str):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 4, 1), torch.randn(2, 4, *SIZE)
    parametrized = PARAMETRIZATIONS[name](conv).eval()
    y = parametrized(x)
    other = PARAMETRIZATIONS[name](nn.Conv2d(4, 4, 1)).eval()
    other.load_state_dict(parametrized.state_dict())
    torch.testing.assert_close(other(x), y)
    torch.testing.assert_close(export(parametrized)(x), y)
    assert is_parametrized(parametrized)
    remove_parametrizations(parametrized, "weight")
    assert type(parametrized) is nn.Conv2d and set(parametrized.state_dict()) == {"weight", "bias"}
    torch.testing.assert_close(parametrized(x), y)
    frozen = PARAMETRIZATIONS[name](nn.Conv2d(4, 4, 1).requires_grad_(False))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert [(name, p.requires_grad) for name, p in export(frozen).named_parameters()] == [("bias", False), ("weight", False)]


@pytest.mark.parametrize("name", ["bounded_norm", "clipped_singular_values"])
def test_tied_weights_stay_tied(name: str):
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    second.weight = first.weight
    for conv in (first, second):
        PARAMETRIZATIONS[name](conv).eval()
    assert len({id(parameter) for conv in (first, second) for parameter in conv.parameters()}) == 3
    assert first.parametrizations.weight.original is second.parametrizations.weight.original
    expected = first.weight.clone()
    for conv in (first, second):
        remove_parametrizations(conv, "weight")
    assert first.weight is second.weight
    torch.testing.assert_close(first.weight, expected, rtol=1e-3, atol=1e-4)


def test_a_tied_weight_has_one_tucker_form():
    torch.manual_seed(0)
    first, second, third = (nn.Conv2d(4, 4, 3, padding=padding, bias=False) for padding in (0, 1, 2))
    second.weight = third.weight = first.weight
    network = nn.ModuleList([parametrizations.tucker(conv, rank=2) for conv in (first, second)])
    assert len(list(network.parameters())) == 3
    assert all(torch.equal(conv.weight, first.weight) for conv in copy.deepcopy(network))
    with pytest.raises(ValueError, match=r"^ranks=\(3, 3\): the weight is shared with a convolution of ranks \(2, 2\)"):
        parametrizations.tucker(third, rank=3)
    assert not is_parametrized(third)
    second(torch.randn(1, 4, 3, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())
    plain, expected = export(network), first.weight.clone()
    assert plain[0].weight is plain[1].weight and isinstance(plain[0].weight, nn.Parameter)
    for conv in network:
        remove_parametrizations(conv, "weight")
        assert torch.equal(conv.weight, expected) and torch.equal(plain[0].weight, expected)
    parametrizations.tucker(third, rank=3)


def test_a_tied_weight_is_not_skew_orthogonal_twice():
    first, second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    second.weight = first.weight
    parametrizations.skew_orthogonal(first)
    with pytest.raises(ValueError, match="shares its weight with a skew orthogonal convolution"):
        parametrizations.skew_orthogonal(second)
    remove_parametrizations(first, "weight")
    parametrizations.skew_orthogonal(second)
    weight = second.weight[:, :, 0, 0]
    torch.testing.assert_close(weight @ weight.mT, torch.eye(4))


def test_two_parametrizations_of_one_weight():
    """A clipped kernel whose rest above the bound is divided away."""
    torch.manual_seed(0)
    conv = make("zeros", GEOMETRIES[0])
    bound = 0.3 * norm(conv).item()
    parametrizations.clipped_singular_values(conv, SIZE, bound)
    assert norm(conv) > 1.02 * bound
    parametrizations.bounded_norm(conv, SIZE, bound, iterations=100)
    assert norm(conv) < 1.01 * bound


def test_half_precision_and_autocast():
    torch.manual_seed(0)
    for name, build in PARAMETRIZATIONS.items():
        conv = build(nn.Conv2d(4, 4, 1, dtype=torch.bfloat16))
        assert conv.weight.dtype == torch.bfloat16, name
        conv = build(nn.Conv2d(4, 4, 1)).eval()
        with torch.autocast("cpu", torch.bfloat16):
            there = conv.weight
        torch.testing.assert_close(there, conv.weight)


@pytest.mark.parametrize("build", [parametrizations.bounded_norm, parametrizations.clipped_singular_values])
def test_a_bounded_weight_compiles_to_one_graph(build):
    torch.compiler.reset()
    torch.manual_seed(0)
    conv = build(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), SIZE, 0.5)
    other, x = copy.deepcopy(conv), torch.randn(2, 4, *SIZE)
    compiled = torch.compile(conv, fullgraph=True, backend="eager")
    for one in (compiled, other):
        one(x).square().sum().backward()
    torch.testing.assert_close(conv.parametrizations.weight.original.grad, other.parametrizations.weight.original.grad)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: parametrizations.bounded_norm(nn.Linear(3, 3), 1), "Linear: must be an nn.Conv2d"),
        (lambda: parametrizations.bounded_norm(nn.Conv2d(3, 3, 3), 8, bound=0), "bound=0: must be a number > 0"),
        (lambda: parametrizations.bounded_norm(nn.Conv2d(3, 3, 3), 8, iterations=0), "iterations=0: must be"),
        (lambda: parametrizations.clipped_singular_values(nn.Conv2d(3, 3, 3), 8, rounds=0), "rounds=0: must be"),
        (lambda: parametrizations.clipped_singular_values(nn.Conv2d(3, 3, 3), 0), "input_size=0: must be"),
        (lambda: parametrizations.tucker(nn.Conv2d(3, 3, 3)), "rank=None and scale=None"),
        (lambda: parametrizations.skew_orthogonal(nn.Conv2d(3, 3, 3)), "only a 1 x 1 kernel without padding"),
    ],
)
def test_what_has_no_meaning_is_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_meta_tensors(name: str):
    with torch.device("meta"):
        conv = PARAMETRIZATIONS[name](nn.Conv2d(4, 4, 1))
        conv(torch.empty(2, 4, *SIZE)).sum().backward()
    assert all(parameter.grad.is_meta for parameter in conv.parameters())


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
@pytest.mark.parametrize("assign", [True, False])
def test_a_convolution_made_on_the_meta_device_takes_a_checkpoint(name: str, assign: bool):
    trained = PARAMETRIZATIONS[name](nn.Conv2d(4, 4, 1, dtype=torch.float64))
    with torch.device("meta"):
        conv = PARAMETRIZATIONS[name](nn.Conv2d(4, 4, 1, dtype=torch.float64))
    conv = conv if assign else conv.to_empty(device="cpu")
    conv.load_state_dict(trained.state_dict(), assign=assign)
    assert torch.equal(conv.eval().weight, trained.eval().weight)


# Second derivatives of norms by power iteration


def iterated(kind: str) -> nn.Module:
    """In float64; the iteration converges in every call."""
    if kind == "bounded_norm":
        return parametrizations.bounded_norm(make("zeros", GEOMETRIES[0]), SIZE, bound=0.5, iterations=300)
    torch.manual_seed(0)
    layer = SOC(4, 6, 1, bias=False).double() if kind == "SOC" else SOTT(4, 6, 1, rank=3).double()
    for _ in range(300):
        layer.train()(torch.zeros(1, 4, 1, 1, dtype=torch.float64))
    return layer


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch.func.jvp itself
@pytest.mark.parametrize("kind", ["bounded_norm", "SOC", "SOTT"])
def test_second_derivatives_of_a_norm_by_power_iteration_are_refused_in_training(kind: str):
    module, x = iterated(kind), torch.randn(2, 4, *SIZE, dtype=torch.float64, requires_grad=True)
    weight = module.parametrizations.weight.original if kind == "bounded_norm" else getattr(module, "core", module).weight
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(copy.deepcopy(module), parameters, (x.detach(),)).sin().sum()

    def twice() -> Tensor:
        (gradient,) = torch.autograd.grad(module(x).sin().sum(), weight, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), weight)[0]

    for second in (
        twice,
        lambda: torch.func.jvp(torch.func.grad(loss), (parameters,), (parameters,)),
        lambda: torch.func.grad(lambda p: torch.func.jvp(loss, (p,), (parameters,))[1])(parameters),
    ):
        with pytest.raises(NotImplementedError, match=r"no second derivative in training.*evaluation mode$"):
            second()
    module.eval()
    assert twice().isfinite().all()


def test_the_penalty_of_an_input_gradient_has_the_gradient_of_the_exact_norm():
    """It needs the first derivative of the norm alone."""
    module, x = iterated("bounded_norm"), torch.randn(2, 4, *SIZE, dtype=torch.float64, requires_grad=True)
    kernel, geometry = module.parametrizations.weight.original, module.parametrizations.weight[0].geometry
    inputs = torch.eye(x[0].numel(), dtype=torch.float64).view(-1, *x.shape[1:])

    def penalty(weight: Tensor) -> Tensor:
        y = padded_conv2d(x, weight, **geometry)
        (gradient,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        return gradient.square().sum()

    exact = torch.linalg.matrix_norm(padded_conv2d(inputs, kernel, **geometry).flatten(1), 2)
    assert exact > 0.5
    (expected,) = torch.autograd.grad(penalty(kernel * (0.5 / exact)), kernel)
    (found,) = torch.autograd.grad(penalty(module.weight), kernel)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())
