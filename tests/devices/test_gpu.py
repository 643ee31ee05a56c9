"""A device against the CPU: TEST_DEVICE=cuda python -m pytest tests/devices/test_gpu.py -m slow

The CPU in float64 is the reference. How far the CPU in float32 is from it says how well conditioned a computation is, and so
how far the device may be: 20 times as far in float32, and in float64 by as much less as its roundings are smaller.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spectral_repro.configuration.compose import compose
from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.layers.replicas import all_reduce, synchronise
from spectral_repro.optim import SGDG, AdamG, Muon
from spectral_repro.training.autotune import ready
from spectral_repro.training.build import (
    build_model,
    build_optimizer,
    build_trainer,
    build_weight_control,
    load_images,
    place,
)
from tests import every_class
from tests.tolerance import tolerance

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # torch warns of much on a GPU

CPU = torch.device("cpu")
DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cuda" if torch.cuda.is_available() else "cpu"))
EXAMPLES = dict(every_class.layer_examples())
METHODS = pytest.mark.parametrize("method", every_class.METHODS.values(), ids=every_class.METHODS)

Computation = Callable[[torch.device, torch.dtype], list[Tensor]]


@pytest.fixture(autouse=True)
def float32_is_float32() -> Iterator[None]:
    """And not TF32, which cuDNN takes for it by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(autouse=True)
def same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random starts of an iteration are the same on every device and in every dtype."""
    randn = torch.randn

    def draw(*size, dtype: torch.dtype | None = None, device: torch.device | None = None, **options) -> Tensor:
        return randn(*size, dtype=torch.float64, **options).to(device, dtype or torch.get_default_dtype())

    monkeypatch.setattr(torch, "randn", draw)


def assert_as_on_the_cpu(compute: Computation, within: torch.dtype | None = None) -> None:
    """Compares in float64 and float32.

    Args:
        compute: something on a device in a dtype.
        within: a less precise dtype that is used within, whatever the dtype.
    """
    exact, rounded = compute(CPU, torch.float64), compute(CPU, torch.float32)
    assert all(value.isfinite().all() for value in exact)
    for dtype in (torch.float64, torch.float32):
        roundings = torch.finfo(within or dtype).eps / torch.finfo(torch.float32).eps
        for number, (value, single, reference) in enumerate(zip(compute(DEVICE, dtype), rounded, exact, strict=True)):
            allowed = roundings * max(20 * distance(single, reference), tolerance(torch.float32, terms=100))
            assert distance(value, reference) <= allowed, f"result {number} in {dtype}"


def distance(value: Tensor, reference: Tensor) -> float:
    """Relative to the norm of the reference, or to 0.01 where it is about 0."""
    difference = value.detach().cpu().double() - reference
    return (difference.norm() / reference.norm().clamp_min(0.01)).item()


def test_a_device_that_is_off_is_found():
    results = [torch.ones(4, dtype=torch.float64), torch.ones(4), torch.ones(4, dtype=torch.float64), torch.ones(4) + 1e-3]
    with pytest.raises(AssertionError, match=r"result 0 in torch\.float32"):
        assert_as_on_the_cpu(lambda device, dtype: [results.pop(0)])


def training_step(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Computation:
    """Output, gradients and running statistics of a layer."""

    def compute(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        module, x = make().to(dtype).train(), torch.randn(shape, dtype=torch.float64).to(dtype)
        module, x = module.to(device), x.to(device).requires_grad_()
        y = module(x)
        y.sin().sum().backward()
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point() and not buffer.isnan().any()]
        with torch.no_grad():
            evaluated = module.eval()(x)
        gradients = [leaf.grad for leaf in (x, *module.parameters()) if leaf.grad is not None]
        return [y, evaluated, *gradients, *buffers]

    return compute


@pytest.mark.parametrize("name", EXAMPLES)
def test_layers(name):
    make, shape = EXAMPLES[name]
    single = getattr(make(), "decomposition", None) == torch.float32
    assert_as_on_the_cpu(training_step(make, shape), within=torch.float32 if single else None)


@METHODS
def test_layers_with_every_method(method):
    for make, shape in every_class.layers_of(method):
        assert_as_on_the_cpu(training_step(make, shape))


@METHODS
def test_functions_of_matrices_with_every_method(method):
    def gradient(name: str, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        matrix = every_class.covariance(6, dtype=torch.float64).to(device, dtype).requires_grad_()
        result = every_class.FUNCTIONS[name](matrix, backward=method)
        if name == "eigh":  # eigenvectors are unique but for their signs
            values, vectors = result
            result = values, (vectors * values.unsqueeze(-2).sin()) @ vectors.mT
        sum(part.sin().sum() for part in tree_leaves(result)).backward()
        return [*tree_leaves(result), matrix.grad]

    for name in every_class.functions_of(method):
        assert_as_on_the_cpu(partial(gradient, name))


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (SGDG, {"grassmann": True}),
        (AdamG, {"grassmann": True}),
        (Muon, {"kernels": "flattened"}),
        (Muon, {"kernels": "operator", "stride": 2}),
        (Muon, {"use_muon": False, "weight_decay": 0.1}),
    ],
)
def test_optimisers(optimizer, options):
    def steps(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        draws = torch.randn(6, 2, 6, 4, 3, 3, dtype=torch.float64)
        weights = [nn.Parameter(weight) for weight in draws[0].to(device, dtype).unbind()]
        made = optimizer(weights, lr=0.1, **options)
        for gradients in draws[1:].to(device, dtype):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            made.step()
        return weights

    assert_as_on_the_cpu(steps)


@pytest.mark.parametrize("name", every_class.CONSTRAINTS)
def test_constraints(name):
    def applied(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        network = every_class.constrained_network()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3)
        network = network.to(device, dtype)
        constraint = every_class.CONSTRAINTS[name](network, (3, 6, 6))
        for step in (1, 2):
            constraint.apply(step)
        return [value for value in network.state_dict().values() if value.is_floating_point()]

    assert_as_on_the_cpu(applied)


@contextmanager
def waiting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For the whole device, but within torch.linalg.eigh, which reads whether it has converged."""
    if DEVICE.type != "cuda":
        yield
        return
    eigh = torch.linalg.eigh

    def may_wait(matrix: Tensor) -> tuple[Tensor, Tensor]:
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("default")
        try:
            return eigh(matrix)
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    with monkeypatch.context() as patch:
        patch.setattr(torch.linalg, "eigh", may_wait)
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=alexnet_small", "norm=zca", "pooling=gcp", "optimizer=sgdg", "gradient_clipping=norm", "schedule=cosine"),
        ("model=wrn16_4", "norm=pca", "conv=tt", "penalty=orthogonal", "constraint=divide_by_largest", "optimizer=adamg"),
        ("model=lipconvnet5", "conv=sott", "optimizer=sgd"),
        ("model=lipconvnet5", "conv=soc", "optimizer=sgd"),
        ("model=resnet18", "optimizer=muon", "optimizer.kernels=operator", "precision=bfloat16"),
        ("model=airbench", "norm=zca_pi", "pooling=isqrt_cov", "param_groups=by_kind", "dataset.flip=alternating"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_a_training_step_waits_for_nothing_but_eigh(overrides, monkeypatch):
    config = compose(["dataset=random", "model.width=16", "dataset.batch_size=8", "dataset.train_images=64", *overrides])
    model, images = place(config, build_model(config), DEVICE), load_images(config)
    optimizer, weights = build_optimizer(config, model), build_weight_control(config, model)
    trainer = build_trainer(config, model, optimizer, weights, images, DEVICE)
    batches = trainer.train_batches.epoch(0)
    model.train()
    for _ in range(2):
        trainer.step(*next(batches))
    with waiting_is_an_error(monkeypatch):
        trainer.step(*next(batches))
    assert trainer.state.step == 3 and trainer.state.sums.isfinite().all()


def test_compiled():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), ZCAWhitening(8, 4), nn.ReLU(), CovariancePooling(8), nn.LazyLinear(4)]
    network, x = nn.Sequential(*layers).to(DEVICE), torch.randn(16, 3, 8, 8, device=DEVICE)
    network(x)

    def gradients(run: nn.Module) -> list[Tensor]:
        network.zero_grad()
        y = run(x)
        y.square().sum().backward()
        return [y.detach(), *(parameter.grad for parameter in network.parameters())]

    expected = gradients(network)
    compiled = torch.compile(network, backend="inductor" if DEVICE.type == "cuda" else "aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="CUDA graphs need a GPU")
@pytest.mark.parametrize(
    "norm",
    [
        ("norm=batch",),
        pytest.param(
            ("norm=zca_pi", "norm.group_size=4"),
            marks=pytest.mark.skipif(not hasattr(torch.linalg, "polar"), reason="torch before 2.14 records eigh in a graph"),
        ),
    ],
    ids=lambda norm: norm[0],
)
def test_with_cuda_graphs(norm):
    """Several steps and an evaluation between them, so that graphs are recorded and replayed."""

    def trained(chosen: str) -> list[Tensor]:
        torch.manual_seed(0)
        overrides = ("scale=smoke", "model=alexnet_small", *norm, "optimizer.lr=0.001", f"trainer.compile={chosen}")
        trainer, batch = ready(compose(overrides), DEVICE)
        for _ in range(2):
            for _ in range(5):
                trainer.step(*batch)
            with torch.inference_mode():
                logits = trainer.model.eval()(batch[0]).clone()
            trainer.model.train()
        return [logits, *trainer.model.parameters()]

    torch.testing.assert_close(trained("reduce-overhead"), trained("false"), rtol=1e-3, atol=1e-3)


SMALL = ("scale=smoke", "model=alexnet_small", "norm=zca", "norm.group_size=4", "optimizer.lr=0.001", "trainer.threads=1")


def assert_same_weights(first: Path, second: Path) -> None:
    """Up to roundings, since convolutions add up in an order of their own on a GPU."""
    expected, found = (torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"] for folder in (first, second))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-3, msg=key)


def test_one_process_of_torchrun_agrees_with_a_plain_run(train, tmp_path):
    overrides = (*SMALL, f"device={DEVICE}")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m", "spectral_repro.train"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    results = tmp_path / "torchrun"
    subprocess.run([*launch, *overrides, f"results_dir={results}"], check=True, env=environment, capture_output=True)
    (folder,) = results.glob("*")
    assert_same_weights(train(*overrides), folder)


def test_a_group_of_one_process():
    """With DistributedDataParallel and the statistics of the whole batch, through the collectives of the device."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), ZCAWhitening(8, 4), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(4)]
    torch.manual_seed(0)
    network, x = nn.Sequential(*layers).to(DEVICE), torch.randn(16, 3, 8, 8, device=DEVICE)
    network(x)
    alone, shared = deepcopy(network), synchronise(network)
    backend = "nccl" if DEVICE.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        for model in (alone, nn.parallel.DistributedDataParallel(shared)):
            model(x).square().sum().backward()
        total = all_reduce(x)
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(total, x)
    for (name, one), other in zip(alone.named_parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-3, msg=name)
    torch.testing.assert_close(shared.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-4)


def test_a_stopped_run_goes_on(train, interrupt):
    overrides = (*SMALL, f"device={DEVICE}", "optimizer=muon", "optimizer.kernels=operator")
    folder = train(*overrides)
    whole = folder.rename(folder.with_name("whole"))
    interrupt(*overrides)
    assert_same_weights(whole, train(*overrides))
