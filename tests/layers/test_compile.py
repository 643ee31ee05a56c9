"""torch.compile(fullgraph=True) of every layer, and what a training step reads back from the device."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spectral_repro import layers
from spectral_repro.linalg.backward import NewtonSchulz, PowerIteration, Taylor
from spectral_repro.optim import SGDG, AdamG

READING = {"_local_scalar_dense", "item", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2"}

LAYERS = {
    "zca": lambda: layers.ZCAWhitening(8, 4),
    "zca-pi": lambda: layers.ZCAWhitening(8, 4, PowerIteration(9)),
    "zca-taylor": lambda: layers.ZCAWhitening(8, 4, Taylor(9)),
    "zca-newton-schulz": lambda: layers.ZCAWhitening(8, 4, NewtonSchulz(5)),
    "zca-reference": lambda: layers.ZCAWhitening(8, 4, truncation="reference"),
    "pca": lambda: layers.PCADenoising(8, 3),
    "gcp": lambda: layers.CovariancePooling(8),
    "isqrt-cov": lambda: layers.CovariancePooling(8, backward=NewtonSchulz(5, "newton_schulz")),
    "seb": lambda: layers.ScalingEigenBranch(8),
    "bilinear": lambda: layers.BilinearPooling(8),
    "compact-bilinear": lambda: layers.CompactBilinearPooling(8, out_features=32),
    "tt": lambda: layers.TTConv2d(8, 8, 3, rank=4),
    "soc": lambda: layers.SOC(8, 8),
    "sott": lambda: layers.SOTT(8, 8, rank=4),
    "bounded-norm": lambda: layers.parametrizations.bounded_norm(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), 4),
    "tucker": lambda: layers.parametrizations.tucker(nn.Conv2d(8, 8, 3), rank=4),
    "skew-orthogonal": lambda: layers.parametrizations.skew_orthogonal(nn.Conv2d(8, 8, 1)),
    "minmax": lambda: layers.MinMax(),
}
each_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS.keys())
each_memory_format = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)


class Reading(TorchDispatchMode):
    """Notes the operators that read a value back from the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        name = operation.overloadpacket.__name__
        masked = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in READING or masked:
            self.found.append(name)
        return operation(*args, **(kwargs or {}))


def compiled_alike(build: Callable[[], nn.Module], backend: str, memory_format: torch.memory_format) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    layer, x = build(), torch.randn(4, 8, 4, 4).contiguous(memory_format=memory_format)
    results = []
    for run in (torch.compile(layer, fullgraph=True, backend=backend), layer):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        y.square().sum().backward()
        results.append((y.detach(), leaf.grad))
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


@each_memory_format
def test_layers_compile_to_one_graph(memory_format: torch.memory_format):
    """The normalisation and the pooling that are used most; the others take longer."""
    for name in ("zca", "gcp"):
        compiled_alike(LAYERS[name], "eager", memory_format)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@each_memory_format
@each_layer
def test_every_layer_compiles_to_one_graph(build, backend: str, memory_format: torch.memory_format):
    compiled_alike(build, backend, memory_format)


@each_layer
def test_no_layer_reads_anything_back(build):
    layer, x = build(), torch.randn(4, 8, 4, 4, requires_grad=True)
    with Reading() as reading:
        layer(x).square().sum().backward()
    assert not reading.found


def test_the_instrument_sees_what_is_read():
    x = torch.arange(3)
    with Reading() as reading:
        x[0].item(), x[x > 1], x.nonzero()
    assert set(reading.found) >= {"_local_scalar_dense", "index", "nonzero"}


@pytest.mark.parametrize("kind", [SGDG, AdamG])
def test_no_optimiser_reads_anything_back(kind):
    weights, rest = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4))
    optimizer = kind([{"params": [weights], "grassmann": True}, {"params": [rest]}], lr=0.1)
    for _ in range(2):
        weights.grad, rest.grad = torch.randn(4, 3, 3, 3), torch.randn(4)
        with Reading() as reading:
            optimizer.step()
        assert not reading.found
