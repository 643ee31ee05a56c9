"""All layers, gradients, optimisers and constraints on devices that are not there: the meta device, and a pretended GPU.

Tensors on them have no values, so whatever reads one fails; what is copied between devices in a step is counted.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import setitem

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.nn.functional import one_hot
from torch.utils._pytree import tree_leaves

from spectral_repro import constraints
from spectral_repro.configuration.compose import compose
from spectral_repro.layers.soc import SOC, iterate_unfoldings
from spectral_repro.linalg import backward
from spectral_repro.optim import SGDG, AdamG, Muon
from spectral_repro.training.build import (
    build_batches,
    build_model,
    build_optimizer,
    build_schedule,
    build_settings,
    build_weight_control,
    load_images,
)
from spectral_repro.training.trainer import Trainer
from tests import every_class
from tests.devices.fake_gpu import FakeGpu, run_backward

WAITING = {"Clip", "DivideByExactLargest"}  # their docstrings say that they wait for the device
READING = (DataDependentOutputException, DynamicOutputShapeException)  # of values that a pretended GPU does not have


def test_every_public_name_has_an_example():
    assert set(every_class.LAYERS) == every_class.public_layers()
    assert {type(method).__name__ for method in every_class.METHODS.values()} == set(backward.__all__) - every_class.BASES
    assert set(every_class.CONSTRAINTS) == set(constraints.__all__) - every_class.BASES - {"OrthogonalPenalty"}


EXAMPLES = dict(every_class.layer_examples())
EVERY_METHOD = pytest.mark.parametrize("method", every_class.METHODS.values(), ids=every_class.METHODS)


def covariances(device: str) -> Tensor:
    return torch.empty(2, 6, 6, device=device, requires_grad=True)


def total(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return sum(part.sum() for part in tree_leaves(result) if part.requires_grad)


def on_meta(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        made = make()
    for module in (make().to("meta"), made):
        x = torch.empty(shape, device="meta", requires_grad=True)
        module.train()(x).sum().backward()
        gradients = [x.grad, *(parameter.grad for parameter in module.parameters())]
        assert all(gradient.is_meta for gradient in gradients if gradient is not None)
        assert module.eval()(x.detach()).is_meta


def on_gpu(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    module = make()
    with FakeGpu() as gpu:
        gpu.put(module)
        x = torch.empty(shape, device="cuda", requires_grad=True)
        for _ in range(2):
            with gpu.watched():
                y = module.train()(x)
                y.sum().backward()
        assert y.device.type == "cuda"
        with gpu.watched(), torch.no_grad():
            module.eval()(x)


@pytest.mark.parametrize("name", EXAMPLES)
def test_layers_on_the_meta_device(name):
    on_meta(*EXAMPLES[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_layers_on_a_pretended_gpu(name):
    on_gpu(*EXAMPLES[name])


def test_the_power_iteration_of_soc_counts_on_the_cpu():
    """It is an operator of its own, which the test above does not look into. Its counter decides how often it iterates."""
    layer = SOC(4, 6)
    with FakeGpu() as gpu:
        gpu.put(layer)
        unfoldings = torch.empty(18, 18, device="cuda"), torch.empty(6, 54, device="cuda")
        for _ in range(2):
            with gpu.watched():
                iterate_unfoldings(layer.v_1, layer.v_2, layer.calls, *unfoldings)
    assert layer.calls == 2


@pytest.mark.parametrize("run", [on_meta, on_gpu])
@EVERY_METHOD
def test_layers_with_every_method(method, run):
    for make, shape in every_class.layers_of(method):
        run(make, shape)


@EVERY_METHOD
def test_functions_of_matrices(method):
    names = every_class.functions_of(method)
    assert names
    for name in names:
        function = partial(every_class.FUNCTIONS[name], backward=method)
        matrix = covariances("meta")
        total(function(matrix)).backward()
        assert matrix.grad.is_meta
        with FakeGpu() as gpu:
            matrix = covariances("cuda")
            with gpu.watched():
                total(function(matrix)).backward()
            assert matrix.grad.shape == matrix.shape


@pytest.mark.parametrize(
    ("optimizer", "own", "others"),
    [
        (SGDG, {"grassmann": True}, {}),
        (AdamG, {"grassmann": True}, {}),
        (Muon, {"kernels": "flattened"}, {"use_muon": False}),
        (Muon, {"kernels": "operator", "stride": 2}, {"use_muon": False}),
    ],
)
def test_optimisers(optimizer, own, others):
    def steps(weight: Tensor, bias: Tensor, watched: Callable[[], AbstractContextManager] = nullcontext) -> None:
        made = optimizer([{"params": [weight], **own}, {"params": [bias], **others}], lr=0.1)
        for _ in range(2):
            weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
            with watched():
                made.step()
        tensors = [value for state in made.state.values() for value in state.values() if isinstance(value, Tensor)]
        assert tensors and {tensor.device.type for tensor in tensors} == {weight.device.type}

    with torch.device("meta"):
        steps(nn.Parameter(torch.empty(4, 3, 3, 3)), nn.Parameter(torch.empty(4)))
    with FakeGpu() as gpu, torch.device("cuda"):
        steps(nn.Parameter(torch.empty(4, 3, 3, 3)), nn.Parameter(torch.empty(4)), gpu.watched)


@pytest.mark.parametrize("name", every_class.CONSTRAINTS)
def test_constraints(name):
    network = every_class.constrained_network().to("meta")
    constraint = every_class.CONSTRAINTS[name](network, (3, 6, 6))
    with pytest.raises(RuntimeError) if name in WAITING else nullcontext():
        constraint.apply(1)
    network = every_class.constrained_network()
    with FakeGpu() as gpu:
        constraint = every_class.CONSTRAINTS[name](gpu.put(network), (3, 6, 6))
        for step in (1, 2):
            with pytest.raises(READING) if name in WAITING else gpu.watched():
                constraint.apply(step)


def test_synchronisation_is_detected():
    """Each of these would make a GPU wait."""
    table = torch.ones(2)
    with FakeGpu() as gpu:
        x = torch.empty(2, device="cuda")
        for reading in (lambda: x.sum().item(), lambda: x[x > 0], lambda: bool((x > 0).all()), lambda: x + table):
            with pytest.raises((*READING, RuntimeError)):
                reading()
        for copying in (lambda: x + table.to(x), lambda: x.new_tensor([1.0, 2.0]), x.cpu, lambda: setitem(x, 0, 1.0)):
            with pytest.raises(AssertionError, match="across devices"), gpu.watched():
                copying()


def halves(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every image half of itself and half of another, as mixup makes them with the share that it draws on the CPU."""
    targets = one_hot(labels, 10).to(images.dtype)
    return (images + images.roll(1, 0)) / 2, (targets + targets.roll(1, 0)) / 2


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # of a copy for averaged weights
@pytest.mark.parametrize(
    "overrides",
    [
        ("model=alexnet_small", "norm=zca", "pooling=gcp", "optimizer=sgdg", "gradient_clipping=norm", "schedule=cosine"),
        ("model=wrn16_4", "norm=pca", "conv=tt", "penalty=orthogonal", "constraint=divide_by_largest", "optimizer=adamg"),
        ("model=lipconvnet5", "conv=sott", "optimizer=sgd"),
        ("model=resnet18", "optimizer=muon", "optimizer.kernels=operator"),
        ("model=alexnet_small", "norm=zca", "trainer.ema_decay=0.9", "trainer.accumulate=2"),
    ],
)
def test_steps_of_the_trainer(overrides):
    """Batches, network, loss, gradients, extremes, penalty, optimiser, schedule, constraint and sums."""
    config = compose(["dataset=random", "model.width=16", "dataset.batch_size=8", *overrides])
    model, images, device = build_model(config), load_images(config), torch.device("cuda")
    with FakeGpu() as gpu:
        gpu.put(model)
        optimizer, weights = build_optimizer(config, model), build_weight_control(config, model)
        train = build_batches(config, images.train, device, train=True)
        control = {"schedule": build_schedule(config), "weights": weights, "batch_transform": halves}
        trainer = Trainer(model, optimizer, train, settings=build_settings(config), **control)
        model.train()
        batches = train.epoch(0)
        next(batches)
        for _ in range(2):
            with gpu.watched():
                trainer.step(*next(batches))
    assert trainer.state.step == 2


def test_the_engine_of_the_pretended_gpu_gives_the_gradients_of_torch(monkeypatch):
    network, x = every_class.constrained_network(), torch.randn(4, 3, 6, 6, requires_grad=True)
    leaves = [x, *network.parameters()]
    loss = network(x).sin().sum()
    expected = torch.autograd.grad(loss, leaves, retain_graph=True)
    monkeypatch.setattr("torch.autograd._engine_run_backward", run_backward)
    found = torch.autograd.grad(loss, leaves, retain_graph=True)
    loss.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([leaf.grad for leaf in leaves], list(expected))
