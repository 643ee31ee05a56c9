"""suite=layers: time and memory of every layer, compared with the plain layer that it replaces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from spectral_repro.benchmarks.clock import Job, time_interleaved
from spectral_repro.benchmarks.layer_figure import draw
from spectral_repro.benchmarks.memory import peak
from spectral_repro.benchmarks.results import Display, SuiteResult, short

TITLES = {"norm": "Norm layers", "pooling": "Pooling layers"}


@dataclass(frozen=True)
class Layers:
    """What to measure, and how much of it.

    Args:
        families: functions that make a layer for a number of channels, by family and name. The first of a family is its plain
            layer.
        inputs: shapes (N, C, H, W) by family.
        seconds, rounds: how long, and at least how often, the layers of a family are timed on one input; see
            `time_interleaved`.
        device: where it is measured.
        seed: of the random features.
    """

    families: Mapping[str, Mapping[str, Callable[[int], nn.Module]]]
    inputs: Mapping[str, Sequence[Sequence[int]]]
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        torch.manual_seed(self.seed)
        numbers = pd.concat([self.compared(*pair) for pair in tqdm(list(self.pairs()), "layers", disable=None)])
        note = (
            "Forward and backward pass in training mode, with float32 features in channels_last. Medians of interleaved "
            "rounds, each time taken right after an untimed run."
        )
        return SuiteResult("Spectral layers compared with plain layers", [note], {"layers": numbers}, displays(numbers))

    def pairs(self) -> Iterator[tuple[str, Sequence[int]]]:
        return ((family, shape) for family in self.families for shape in self.inputs[family])

    def compared(self, family: str, shape: Sequence[int]) -> pd.DataFrame:
        """A row for each layer: milliseconds, MiB, and their ratios to those of the plain layer."""
        features = torch.randn(*shape, device=self.device).relu().contiguous(memory_format=torch.channels_last)
        layers = {name: make(shape[1]).to(self.device) for name, make in self.families[family].items()}
        jobs = {name: passes(layer, features) for name, layer in layers.items()}
        frame = time_interleaved(jobs, self.device, self.seconds, self.rounds).rename(columns={"name": "layer"})
        frame["peak_mib"] = [peak(job, self.device) / 2**20 for job in jobs.values()]
        frame["relative_time"] = frame["total_ms"] / frame["total_ms"][0]
        frame["relative_memory"] = frame["peak_mib"] / frame["peak_mib"][0]
        frame.insert(0, "family", family)
        frame.insert(1, "input", " × ".join(map(str, shape)))
        return frame


def passes(layer: nn.Module, features: Tensor, frozen: bool = False) -> Job:
    """A forward pass, and a backward pass to the parameters and, unless ``frozen``, to the features."""
    grad_output = torch.randn_like(layer(features))

    def forward() -> Callable[[], object]:
        leaf = features.detach().requires_grad_(not frozen)
        result = layer(leaf)
        leaves = [*layer.parameters()] if frozen else [leaf, *layer.parameters()]
        return lambda: torch.autograd.grad(result, leaves, grad_output)

    return forward


def displays(numbers: pd.DataFrame) -> list[Display]:
    figure = Display(
        "layers",
        "Time of the layers",
        "Medians of the forward and the backward pass; the whiskers are the quartiles of their sum.",
        figure=draw(numbers),
    )
    tables = [
        Display(
            "_".join(("layers", family, *shape.split(" × "))),
            f"{TITLES[family]}, features {shape}",
            f"The last two columns are ratios to the plain layer, {frame['layer'].iloc[0]}.",
            table=table(frame),
        )
        for (family, shape), frame in numbers.groupby(["family", "input"], sort=False)
    ]
    return [figure, *tables]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer."""
    totals = zip(frame["total_ms"], frame["total_low_ms"], frame["total_high_ms"], strict=True)
    return pd.DataFrame(
        {
            "layer": frame["layer"],
            "forward (ms)": frame["forward_ms"].map(short),
            "backward (ms)": frame["backward_ms"].map(short),
            "both (ms) [quartiles]": ["{} [{}–{}]".format(*map(short, cells)) for cells in totals],
            "rounds": frame["rounds"].astype(str),
            "memory (MiB)": frame["peak_mib"].map(short),
            "× time": frame["relative_time"].map(short),
            "× memory": frame["relative_memory"].map(short),
        }
    )
