"""Invalid arguments of optimisers: a clear message, and no changed weight."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from spectral_repro.optim import SGDG, AdamG, Muon, adamg, muon, sgdg, sphere_groups
from spectral_repro.optim.grassmann import Grassmann

OPTIMIZERS = pytest.mark.parametrize("optimizer", [SGDG, AdamG])
FACTORIES = pytest.mark.parametrize(("factory", "flag"), [(sgdg, "grassmann"), (adamg, "grassmann"), (muon, "use_muon")])
SPHERE_FACTORIES = pytest.mark.parametrize("factory", [sgdg, adamg])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(4, 2))


def refused(model: nn.Module, make, error: type[Exception], message: str) -> None:
    """The message is one line, and no weight has changed."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"params": [("bias", nn.Parameter(torch.ones(4)))], "grassmann": True}, r"^grassmann=True: parameter bias of sh"),
        ({"params": [("w", nn.Parameter(torch.ones(4, 0)))], "grassmann": True}, r"parameter w of shape \(4, 0\) has no rows"),
        ({"params": [("w", nn.Parameter(torch.ones(4, 3).cfloat()))], "grassmann": True}, "w .* is torch.complex64"),
        ({"params": [("w", nn.Parameter(torch.eye(3).to_sparse()))]}, r"^parameter w of shape \(3, 3\) is sparse: only dense"),
        ({"params": [("w", nn.Parameter(torch.ones(4, 3)))], "lr": -1}, r"^lr=-1: must be >= 0$"),
        ({"params": [("w", nn.Parameter(torch.ones(4, 3)))], "lr": "0.1"}, r"^lr='0.1': must be a number$"),
        ({"params": [("w", nn.Parameter(torch.ones(4, 3)))], "omega": float("nan")}, r"^omega=nan: must be >= 0$"),
        ({"params": [("w", torch.ones(4, 3, requires_grad=True) * 2)]}, "can't optimize a non-leaf Tensor"),
    ],
    ids=["vector", "empty rows", "complex", "sparse", "negative", "text", "nan", "not a leaf"],
)
@OPTIMIZERS
def test_a_bad_group_leaves_the_weights_of_the_groups_before_it_alone(optimizer, second, message):
    model = network()
    first = {"params": [("0.weight", model[0].weight)], "grassmann": True}
    refused(model, lambda: optimizer([first, second]), ValueError, message)
    assert set(first) == {"params", "grassmann"}, "a group that is given is not filled with defaults"


@pytest.mark.parametrize(("key", "value"), [("beta2", 1.0), ("eps", 0.0)])
def test_values_of_adam_are_checked_in_groups_too(key, value):
    with pytest.raises(ValueError, match=f"^{key}={value}: must be"):
        AdamG([{"params": [nn.Parameter(torch.ones(4, 3))], key: value}])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"params": [("bias", torch.ones(4))]},
            r"^use_muon=True: parameter bias of shape \(4,\) is not a matrix or kernel, put it",
        ),
        ({"params": [("w", torch.ones(4, 0))]}, r"^use_muon=True: parameter w of shape \(4, 0\) is not a matrix or kernel"),
        ({"params": [("w", torch.ones(4, 3).cfloat())]}, r"^use_muon=True: parameter w .* is torch\.complex64, but Muon is"),
        ({"params": [("w", torch.eye(3).to_sparse())]}, r"^parameter w of shape \(3, 3\) is sparse: only dense"),
        ({"params": [("w", torch.ones(2, 2, 3, 3, 3))], "kernels": "operator"}, r'^kernels="operator": parameter w of shape'),
        (
            {"params": [("w", torch.ones(4, 3))], "groups": 3},
            r"^groups=3: must divide the rows of parameter w of shape \(4, 3\)",
        ),
        ({"params": [("w", torch.ones(4, 3))], "lr": -1}, r"^lr=-1: must be >= 0$"),
        ({"params": [("w", torch.ones(4, 3))], "momentum": 1.0}, r"^momentum=1\.0: must be in \[0, 1\)$"),
        ({"params": [("w", torch.ones(4, 3))], "weight_decay": None}, r"^weight_decay=None: must be a number$"),
        ({"params": [("w", torch.ones(4, 3))], "kernels": "both"}, r"^kernels='both': must be flattened or operator$"),
        ({"params": [("w", torch.ones(4, 3))], "frequencies": 0}, r"^frequencies=0: must be a whole number >= 1$"),
        ({"params": [("w", torch.ones(4, 3))], "ns_steps": 2.5}, r"^ns_steps=2\.5: must be a whole number >= 1$"),
        (
            {"params": [("w", torch.ones(4, 3))], "ns_coefficients": [1, 2]},
            r"^ns_coefficients=\[1, 2\]: must be three numbers$",
        ),
        ({"params": [("w", torch.ones(4, 3))], "stride": 0}, r"^stride=0: must be a whole number >= 1, or two of them$"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_groups_that_muon_refuses(second, message):
    model = network()
    made = Muon([{"params": [("w0", model[0].weight)]}, {"params": [("b0", model[0].bias)], "use_muon": False}])
    second = second | {"params": [(name, nn.Parameter(value)) for name, value in second["params"]]}
    refused(model, lambda: made.add_param_group(second), ValueError, message)
    assert len(made.param_groups) == 2 and not made.state


@OPTIMIZERS
def test_a_refused_group_is_not_added(optimizer):
    model = network()
    made = optimizer([model[0].weight], lr=0.1)
    refused(model, lambda: made.add_param_group({"params": [model[0].bias], "grassmann": True}), ValueError, "no rows")
    assert len(made.param_groups) == 1
    made = copy.deepcopy(made)
    weight = nn.Parameter(torch.randn(5, 7))
    made.add_param_group({"params": [weight], "grassmann": True})
    torch.testing.assert_close(weight.detach().norm(dim=1), torch.ones(5))
    assert len(made.param_groups) == 2


@OPTIMIZERS
def test_a_sparse_gradient_is_refused_before_anything_moves(optimizer):
    model = nn.ModuleDict({"dense": nn.Linear(3, 2), "table": nn.Embedding(5, 3, sparse=True)})
    made = optimizer([{"params": model.dense.named_parameters()}, {"params": [("table.weight", model.table.weight)]}], lr=0.1)
    model.dense(model.table(torch.tensor([1, 2]))).sum().backward()
    refused(model, made.step, ValueError, r"^parameter table\.weight of shape \(5, 3\) has a sparse gradient: only dense")
    assert not made.state


@OPTIMIZERS
def test_complex_weights_off_the_sphere_are_right(optimizer):
    own = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128))
    other = nn.Parameter(own.detach().clone())
    made = optimizer([own], lr=0.1, weight_decay=0.1)
    reference = torch.optim.SGD([other], lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    for _ in range(3):
        own.grad = torch.randn_like(own)
        other.grad = own.grad.clone()
        made.step()
        reference.step()
        torch.testing.assert_close(own, other)


@OPTIMIZERS
def test_a_row_that_is_not_finite_is_not_hidden(optimizer):
    weight = nn.Parameter(torch.ones(2, 3))
    weight.data[0, 0] = torch.nan
    optimizer([weight], grassmann=True)
    assert weight[0].isnan().all() and weight[1].isfinite().all()


@OPTIMIZERS
def test_numbers_of_numpy_and_zero_rates(optimizer):
    weight = nn.Parameter(torch.randn(4, 3))
    made: Grassmann = optimizer([weight], lr=np.float32(0), momentum=np.float64(0.5), grassmann=True)
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    made.step()
    torch.testing.assert_close(weight.detach(), before)


@FACTORIES
def test_parameters_that_the_factories_refuse(factory, flag):
    model, foreign = network(), nn.Parameter(torch.ones(4, 3))
    for params, error, message in [
        ([], ValueError, "^params is empty"),
        ([{"params": []}], ValueError, "^params is empty"),
        ([model[0].weight, foreign], ValueError, r"^params: the parameter of shape \(4, 3\) is not one of the network's$"),
        ([("head.weight", foreign)], ValueError, r"^params: the parameter head\.weight of shape \(4, 3\) is not one of"),
        (model[0].weight, TypeError, "^params is a tensor"),
        ([{"params": [model[0].weight]}, model[0].bias], TypeError, "^params has groups and parameters"),
        ([model[0].bias, model[1].weight], ValueError, "nothing to optimise (on the sphere|by Muon)$"),
        ([{"params": model.parameters(), flag: True}], ValueError, rf"^{flag}=True: parameter 0\.bias of s"),
        ([{"params": [model[0].weight]}, {"params": [model[0].weight]}], ValueError, "more than one parameter group"),
    ]:
        refused(model, lambda params=params: factory(params, model), error, message)
    refused(model, lambda: factory(model.parameters(), model, momentum=1.5), ValueError, r"^momentum=1\.5: must be in")


@FACTORIES
def test_frozen_parameters_are_left_as_they_are_and_out_of_the_groups(factory, flag):
    model = network()
    for part in model[:2]:
        part.requires_grad_(False)
    before = copy.deepcopy(model[:2].state_dict())
    made = factory(model.parameters(), model)
    names = {name for group in made.param_groups for name in group["param_names"]}
    assert names == {"2.weight", "2.bias", "4.weight", "4.bias"}
    made.add_param_group({"params": [("0.weight", model[0].weight)], flag: True})
    assert all(torch.equal(value, before[name]) for name, value in model[:2].state_dict().items())
    refused(model, lambda: factory(model[:2].parameters(), model), ValueError, "^params is empty, or all of it is frozen")


@SPHERE_FACTORIES
def test_given_groups_keep_what_they_were_given(factory):
    model = network()
    given = [
        {"params": model[0].parameters(), "lr": 0.05, "momentum": 0.5, "weight_decay": 0.1, "omega": 0.3, "name": "features"},
        {"params": model[1].named_parameters("1")},
        {"params": model[2].weight, "grassmann": False, "weight_decay": 0.0},
        {"params": [model[2].bias], "lrg": 7.0},
        {"params": [model[4].weight], "grassmann": True, "lrg": 0.3},
        {"params": [model[4].bias]},
    ]
    made = factory(given, model, lr=0.01, lrg=0.2, weight_decay=5e-4, bn_decay=1e-5)
    keys = ("param_names", "lr", "momentum", "weight_decay", "grassmann")
    found = [tuple(group[key] for key in keys) for group in made.param_groups]
    assert found == [
        (["0.bias"], 0.05, 0.5, 0.1, False),
        (["0.weight"], 1.0, 0.5, 0.1, True),
        (["1.weight", "1.bias"], 0.01, 0.9, 1e-5, False),
        (["2.weight"], 0.01, 0.9, 0.0, False),
        (["2.bias"], 0.01, 0.9, 1e-5, False),
        (["4.weight"], 0.3, 0.9, 0.0, True),
        (["4.bias"], 0.01, 0.9, 1e-5, False),
    ]
    assert made.param_groups[1]["omega"] == 0.3 and made.param_groups[1]["name"] == "features"


def test_a_learning_rate_of_zero():
    model = network()
    groups = sphere_groups(model.parameters(), model, lr=0.0, lrg=0.2, weight_decay=0.0, bn_decay=0.0)
    assert [group["lr"] for group in groups] == [0.0, 0.0, 0.2]
    own = [{"params": model.parameters(), "lr": 0.1}]
    with pytest.raises(ValueError, match=r"^lr=0: a group with lr=0\.1 must say its lrg too$"):
        sgdg(own, model, lr=0.0)
    assert [group["lr"] for group in sgdg([{**own[0], "lrg": 0.3}], model, lr=0.0).param_groups] == [0.1, 0.1, 0.3]
