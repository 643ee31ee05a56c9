"""The largest singular values of a network's layers, epoch by epoch."""

import csv
from pathlib import Path

import torch
from torch import nn

from spectral_repro.bounds import Count
from spectral_repro.constraints.operators import operators
from spectral_repro.layers.tt import TTConv2d
from spectral_repro.linalg import conv_power_iteration
from spectral_repro.training.metrics import write_metrics

Row = dict[str, object]


class LargestSingularValues:
    """Of every convolution, linear layer and TT layer, which counts as one with the kernel of its three factors.

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
        rows = {}
        for operator, start in self.starts:
            power, _ = conv_power_iteration(operator.weight, start, **operator.padded, iterations=self.iterations)
            row = rows.setdefault(operator.name, {"layer": operator.name, "exact": 0.0, "power": 0.0})
            row |= {"exact": max(row["exact"], operator.norm().item()), "power": max(row["power"], power.item())}
        return list(rows.values())


def add_epoch(path: Path, epoch: int, rows: list[Row]) -> None:
    """Puts an epoch behind those before it in spectra.csv; what a run that goes on has written of later ones goes."""
    before = []
    if path.exists():
        with path.open() as file:
            before = [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch]
    write_metrics(path, before + [{"epoch": epoch} | row for row in rows])
