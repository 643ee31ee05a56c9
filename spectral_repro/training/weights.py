"""Averages, penalty, constraint and measured singular values of the weights during training."""

import copy
import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spectral_repro.bounds import Count
from spectral_repro.constraints import Constraint
from spectral_repro.constraints.operators import operators
from spectral_repro.layers.tt import TTConv2d
from spectral_repro.linalg import conv_power_iteration
from spectral_repro.training.files import write_metrics

Row = dict[str, Any]


class LargestSingularValues:
    """Measures all convolutions, linear layers and TT layers; a TT layer counts as one kernel composed of its three factors.

    Args:
        network: on its device, not yet compiled.
        image_shape: (channels, height, width) of its input.
        iterations: of the power iteration, from the same random vectors each time.
    """

    def __init__(self, network: nn.Module, image_shape: tuple[int, int, int], iterations: Count = 30):
        self.iterations = iterations
        within = tuple(f"{name}." for name, layer in network.named_modules() if isinstance(layer, TTConv2d))
        found = [each for each in operators(network, image_shape) if not each.name.startswith(within)]
        generator = torch.Generator().manual_seed(0)
        self.starts = [(operator, operator.random_input(generator)) for operator in found]

    @torch.no_grad()
    def measure(self) -> list[Row]:
        """A row for each layer in the order of a forward pass: layer, exact (`Operator.norm`), power (`conv_power_iteration`).

        For a layer whose inputs have several sizes, the largest values.
        """
        rows: dict[str, Row] = {}
        for operator, start in self.starts:
            power, _ = conv_power_iteration(operator.weight, start, **operator.padded, iterations=self.iterations)
            row = rows.setdefault(operator.name, {"layer": operator.name, "exact": 0.0, "power": 0.0})
            row |= {"exact": max(row["exact"], operator.norm().item()), "power": max(row["power"], power.item())}
        return list(rows.values())


def add_epoch(path: Path, epoch: int, rows: list[Row]) -> None:
    """Appends an epoch to spectra.csv; rows of later epochs, from before a run was resumed, are removed."""
    before = []
    if path.exists():
        with path.open(encoding="utf-8") as file:
            before = [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch]
    write_metrics(path, before + [{"epoch": epoch} | row for row in rows])


class AveragedWeights:
    """A copy of a network whose weights and running statistics are averaged over the steps, ema <- d ema + (1 - d) weights.

    The average starts at the weights of the first step. Other buffers are copied, such as counts of batches, and vectors of
    power iterations, of which an average is too short; `torch.optim.swa_utils.AveragedModel` with ``use_buffers`` averages them
    too. Buffers named running_... count as running statistics.

    Attributes:
        module: the copy.
        steps: number of averaged steps.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.module, self.decay, self.steps = copy.deepcopy(network), decay, 0
        names = [name.rpartition(".")[2] for name, _ in network.named_buffers()]
        self.averaged = [True for _ in network.parameters()] + [name.startswith("running_") for name in names]

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Adds the weights of the network after a step to the average."""
        alike: defaultdict[tuple[torch.dtype, bool], tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for average, value, averaged in zip(_tensors(self.module), _tensors(network), self.averaged, strict=True):
            averages, values = alike[average.dtype, averaged]
            averages.append(average)
            values.append(value)
        for (dtype, averaged), (averages, values) in alike.items():
            weight = 1 - self.decay if self.steps and averaged and dtype.is_floating_point else 1
            if weight == 1:
                torch._foreach_copy_(averages, values)
            else:
                torch._foreach_lerp_(averages, values, weight)
        self.steps += 1


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())


@dataclass(frozen=True)
class WeightControl:
    """A penalty in the loss, a constraint after every step and a measurement after every epoch; each is optional."""

    network: nn.Module
    penalty: Callable[[nn.Module], Tensor] | None = None
    constraint: Constraint | None = None
    largest: LargestSingularValues | None = None

    def penalised(self, loss: Tensor) -> Tensor:
        return loss + self.penalty(self.network) if self.penalty else loss

    def after_step(self, step: int) -> None:
        if self.constraint:
            self.constraint.apply(step)

    @torch.no_grad()
    def after_epoch(self, epoch: int, path: Path | None) -> tuple[dict[str, float], dict[str, float]]:
        """The columns of metrics.csv and the scalars for the loggers; the singular values are written to ``path``."""
        columns, scalars = {}, {}
        if self.penalty:
            columns["penalty"] = self.penalty(self.network).item()
        if self.constraint:
            columns |= self.constraint.metrics()
        if self.largest:
            rows = self.largest.measure()
            if path:
                add_epoch(path, epoch, rows)
            columns["largest_singular_value"] = max(row["exact"] for row in rows)
            scalars = {f"singular_value/{row['layer']}/{kind}": row[kind] for row in rows for kind in ("exact", "power")}
        return columns, scalars

    def state_dict(self) -> dict[str, Any]:
        return self.constraint.state_dict() if self.constraint else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.constraint:
            self.constraint.load_state_dict(state)
