"""suite=cuda: square roots by size and number of matrices, times of layers, and synchronisations in a training step."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from spectral_repro.benchmarks.accuracy import relative_error
from spectral_repro.benchmarks.clock import time_interleaved
from spectral_repro.benchmarks.comparisons import METHODS, optimizers, pooling, whitening
from spectral_repro.benchmarks.references import step, whole
from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.benchmarks.tasks import DTYPES
from spectral_repro.layers import CovariancePooling, PCADenoising, ZCAWhitening
from spectral_repro.linalg.roots import newton_schulz
from spectral_repro.optim import SGDG, AdamG, Muon
from spectral_repro.optim.mixed import MixedOptimizer


@dataclass(frozen=True)
class Cuda:
    """What to measure, and how much of it.

    Args:
        sizes: of the matrices.
        numbers: of matrices in a batch.
        entries: the largest number of entries in a batch of matrices; larger batches are skipped.
        whitening, pooling, optimizers: options of the comparisons of these names.
        seconds, rounds: how long, and at least how often, each size is timed; see `time_interleaved`.
        device: where it is measured.
        seed: of the random numbers.
    """

    sizes: Sequence[int]
    numbers: Sequence[int]
    entries: int
    whitening: Mapping[str, Any]
    pooling: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        torch.manual_seed(self.seed)
        pairs = [(d, n) for d in self.sizes for n in self.numbers if n * d * d <= self.entries]
        roots = pd.DataFrame([row for pair in tqdm(pairs, "matrices", disable=None) for row in self.roots(*pair)])
        layers = pd.concat(list(self.layers()), ignore_index=True)
        waits = pd.DataFrame(list(self.waits()))
        numbers = {"roots": roots, "layers": layers, "waits": waits}
        caption = "Milliseconds for all matrices together; error: largest |F - exact| / |exact| of the square root."
        displays = [
            Display("roots", "Square roots of many matrices", caption, table=shown(roots)),
            Display("layers", "Layers and optimisers", "Forward and backward pass, or a step.", table=shown(layers)),
            Display("waits", "Waiting for the device", "Synchronisations of a training step.", table=shown(waits)),
        ]
        return SuiteResult("On this device", ["Medians of interleaved rounds."], numbers, displays)

    def roots(self, size: int, number: int) -> Iterator[dict[str, Any]]:
        """A row for each dtype and way: milliseconds and error of the square root of covariances over 4 d positions."""
        features = torch.randn(number, size, 4 * size, device=self.device, dtype=torch.float64)
        matrices = features @ features.mT / (4 * size)
        exact = root(matrices)
        for name, dtype in DTYPES.items():
            given = matrices.to(dtype)
            ways: dict[str, Callable[[], Tensor]] = {
                "eigh": partial(root, given),
                "newton_schulz, 12": partial(newton_schulz, given, 12),
            }
            frame = time_interleaved({key: whole(way) for key, way in ways.items()}, self.device, self.seconds, self.rounds)
            for row in frame.itertuples():
                error = relative_error(ways[row.name]().cpu().double(), exact.cpu()).max()
                about = {"size": size, "number": number, "dtype": name, "way": row.name}
                yield about | {"ms": row.total_ms, "error": float(error)}

    def layers(self) -> Iterator[pd.DataFrame]:
        comparisons = [
            whitening(self.device, **self.whitening),
            pooling(self.device, **self.pooling),
            optimizers(self.device, **self.optimizers),
        ]
        for number, comparison in enumerate(comparisons):
            frame = time_interleaved(comparison.jobs, self.device, self.seconds, self.rounds)
            yield frame[["name", "total_ms", "rounds"]].assign(comparison=number)

    def waits(self) -> Iterator[dict[str, Any]]:
        """A row for each layer, with SGD, and for each optimiser: the number of synchronisations in a step, and where."""
        normed: dict[str, Callable[[], Any]] = {
            f"ZCA, {name}": partial(ZCAWhitening, 32, 16, method) for name, method in METHODS.items()
        }
        normed |= {"ZCA, d = 64": partial(ZCAWhitening, 64, 64), "PCA": partial(PCADenoising, 32)}
        pooled: dict[str, Callable[[], Any]] = {
            f"pooling, {name}": partial(CovariancePooling, 32, backward=m) for name, m in METHODS.items()
        }
        sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
        for name, make in normed.items():
            layer = make()
            yield self.waited(name, network(layer.num_features, layer, nn.Flatten()), sgd)
        for name, make in pooled.items():
            yield self.waited(name, network(32, make()), sgd)
        for kind, flag in ((SGDG, "grassmann"), (AdamG, "grassmann"), (Muon, "use_muon")):
            yield self.waited(kind.__name__, network(32, nn.Flatten()), partial(by_rule, kind, flag))
        operator = partial(by_rule, Muon, "use_muon", kernels="operator")
        yield self.waited("Muon, operator", network(32, nn.Flatten()), operator)

    def waited(self, name: str, model: nn.Module, make: Callable[..., torch.optim.Optimizer]) -> dict[str, Any]:
        model, images = model.to(self.device), torch.randn(8, 3, 8, 8, device=self.device)
        model(images)  # makes the lazy layer's weights
        optimizer = make(model.parameters())
        labels = torch.randint(10, (8,), device=self.device)
        step(model, optimizer, images, labels)
        if self.device.type != "cuda":
            return {"step": name, "waits": 0, "where": "not a GPU"}
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                step(model, optimizer, images, labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found = [w for w in caught if "synchroniz" in str(w.message)]
        places = sorted({f"{'/'.join(w.filename.split('/')[-2:])}:{w.lineno}" for w in found})
        return {"step": name, "waits": len(found), "where": ", ".join(places) or "–"}


def network(channels: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), *layers, nn.LazyLinear(10))


def root(matrices: Tensor) -> Tensor:
    """The square root (n, d, d) by an eigendecomposition."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT


def by_rule(kind: Callable[..., MixedOptimizer], flag: str, params: Iterable[Tensor], **options: Any) -> MixedOptimizer:
    """An optimiser with its own rule for the kernels of convolutions and SGD for the other parameters."""
    kernels: list[Tensor] = []
    rest: list[Tensor] = []
    for parameter in params:
        (kernels if parameter.dim() == 4 else rest).append(parameter)
    return kind([{"params": kernels, flag: True}, {"params": rest, flag: False}], lr=0.1, **options)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.map(lambda value: short(value) if isinstance(value, float) else str(value))
