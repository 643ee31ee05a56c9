"""suite=sphere: how far rows of weights drift from the sphere when only the optimiser's steps keep them there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.benchmarks.tasks import DTYPES
from spectral_repro.optim.grassmann import Grassmann


@dataclass(frozen=True)
class Sphere:
    """What to measure, and how much of it.

    Args:
        optimizers: by name; each of parameters and their network.
        channels: of the network, a 3 x 3 convolution from each to the next.
        looks: numbers of steps, ascending, after which the rows are measured.
        device, seed: where, and which random weights and gradients.
    """

    optimizers: Mapping[str, Callable[..., Grassmann]]
    channels: Sequence[int]
    looks: Sequence[int]
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        jobs = [(name, dtype) for name in self.optimizers for dtype in DTYPES]
        numbers = pd.DataFrame([row for job in tqdm(jobs, "sphere", disable=None) for row in self.drift(*job)])
        note = (
            "Gradients are random, every row of length 1 before the part along the weight is taken off it and it is cut to "
            "the optimiser's grad_clip; learning rates and all else as in conf/optimizer. No step normalises a weight."
        )
        return SuiteResult("Weights on the sphere", [note], {"sphere": numbers}, [display(numbers)])

    def drift(self, name: str, dtype: str) -> Iterator[dict[str, Any]]:
        """A row for each check: the largest | |y| - 1 | over all rows y, in float64."""
        torch.manual_seed(self.seed)
        layers = [nn.Conv2d(*pair, 3, bias=False) for pair in pairwise(self.channels)]
        network = nn.Sequential(*layers).to(self.device, DTYPES[dtype])
        optimizer = self.optimizers[name](network.parameters(), network)
        weights = [parameter for group in optimizer.param_groups if group["grassmann"] for parameter in group["params"]]
        for done in range(1, self.looks[-1] + 1):
            for weight in weights:
                weight.grad = torch.randn_like(weight) / weight[0].numel() ** 0.5
            optimizer.step()
            if done in self.looks:
                lengths = torch.cat([weight.detach().double().flatten(1).norm(dim=1) for weight in weights])
                about = {"optimizer": name, "dtype": dtype, "rows": len(lengths), "steps": done}
                yield about | {"deviation": (lengths - 1).abs().max().item()}


def display(numbers: pd.DataFrame) -> Display:
    wide = numbers.pivot(index=["optimizer", "dtype"], columns="steps", values="deviation").map(short)
    wide.columns = [f"after {steps:,} step{'s' * (steps > 1)}" for steps in wide.columns]
    return Display(
        "sphere",
        "Weights on the sphere",
        f"The largest | |y| − 1 | over {numbers['rows'].iloc[0]} rows y.",
        table=wide.reset_index(),
    )
