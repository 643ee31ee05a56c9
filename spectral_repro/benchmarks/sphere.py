"""suite=sphere: drift of weights from the unit sphere under many optimiser steps, without normalisation."""

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
        optimizers: functions of parameters and their network, by name.
        channels: of the network, which has a 3 x 3 convolution between each two.
        measured_after: numbers of steps, ascending, after which the rows are measured.
        device: where it is measured.
        seed: of the random weights and gradients.
    """

    optimizers: Mapping[str, Callable[..., Grassmann]]
    channels: Sequence[int]
    measured_after: Sequence[int]
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        jobs = [(name, dtype) for name in self.optimizers for dtype in DTYPES]
        numbers = pd.DataFrame([row for job in tqdm(jobs, "sphere", disable=None) for row in self.drift(*job)])
        note = (
            "Gradients are random, with rows of length 1 before the optimiser projects them on the tangent space and clips "
            "them to grad_clip. Learning rates and other settings are those of conf/optimizer. Weights are never normalised."
        )
        return SuiteResult("Weights on the sphere", [note], {"sphere": numbers}, [display(numbers)])

    def drift(self, name: str, dtype: str) -> Iterator[dict[str, Any]]:
        """A row for each check: the largest | |y| - 1 | over all rows y, in float64."""
        torch.manual_seed(self.seed)
        layers = [nn.Conv2d(*pair, 3, bias=False) for pair in pairwise(self.channels)]
        network = nn.Sequential(*layers).to(self.device, DTYPES[dtype])
        optimizer = self.optimizers[name](network.parameters(), network)
        weights = [parameter for group in optimizer.param_groups if group["grassmann"] for parameter in group["params"]]
        for done in range(1, self.measured_after[-1] + 1):
            for weight in weights:
                weight.grad = torch.randn_like(weight) / weight[0].numel() ** 0.5
            optimizer.step()
            if done in self.measured_after:
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
