"""Growth of the layers' time and memory with size, measured and in theory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_repro.benchmarks.clock import time_interleaved
from spectral_repro.benchmarks.layers import passes
from spectral_repro.benchmarks.memory import peak
from spectral_repro.benchmarks.results import Display
from spectral_repro.layers import CovariancePooling, ZCAWhitening
from spectral_repro.reporting.style import INK, PALETTE, STYLE, laid_out

MARKERS = {"whitening": "o", "pooling": "s"}
START = {"batch": 16, "channels": 256, "positions": 64, "group_size": 16}
PANELS = [("whitening", axis) for axis in START] + [("pooling", axis) for axis in START if axis != "group_size"]


def theory(layer: str, batch: int, channels: int, positions: int, group_size: int) -> dict[str, float]:
    """Leading terms with weight 1: operations of products and decompositions ("ms"), entries of input and output ("mib")."""
    if layer == "whitening":
        numbers = batch * positions * channels
        return {"ms": numbers * group_size, "mib": numbers}
    rank = min(channels, positions)
    operations = rank * (channels * positions + channels**2 + rank**2)
    return {"ms": batch * operations, "mib": batch * channels * (channels + positions)}


@dataclass(frozen=True)
class Scaling:
    """Varies one size at a time, while the others stay at `START`.

    Args:
        values: of channels, positions, batch and group_size, in ascending order.
        rounds: how often each size is timed; see `time_interleaved`.
    """

    values: Mapping[str, Sequence[int]]
    rounds: int

    def measure(self, device: torch.device) -> pd.DataFrame:
        """A row for each layer, axis and value: milliseconds and MiB."""
        rows = []
        for layer, axis in PANELS:
            jobs = {}
            for value in self.values[axis]:
                sizes = START | {axis: value}
                side = round(sizes["positions"] ** 0.5)
                features = torch.randn(sizes["batch"], sizes["channels"], side, side, device=device)
                made = (
                    ZCAWhitening(sizes["channels"], sizes["group_size"])
                    if layer == "whitening"
                    else CovariancePooling(sizes["channels"])
                )
                jobs[str(value)] = passes(made.to(device), features.contiguous(memory_format=torch.channels_last))
            frame = time_interleaved(jobs, device, 0, self.rounds)
            for value, milliseconds, job in zip(self.values[axis], frame["total_ms"], jobs.values(), strict=True):
                size = {"ms": milliseconds, "mib": peak(job, device) / 2**20}
                rows.append({"layer": layer, "axis": axis, "value": value, **size})
        return pd.DataFrame(rows)

    def displays(self, numbers: pd.DataFrame) -> list[Display]:
        start = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in START.items())
        caption = (
            f"One size varies; the others are {start}, channels_last. Exponents are fitted to the larger half of the sizes."
        )
        table = exponents(numbers)
        return [
            Display("scaling", "How cost grows", caption, figure=draw(numbers)),
            Display(
                "exponents",
                "Exponents",
                caption,
                table=table.map(lambda x: f"{x:z.2f}" if isinstance(x, float) else x),
            ),
        ]


def exponents(numbers: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer and axis: exponents of time and memory, fitted to the measured values and to `theory`."""
    rows = []
    for layer, axis in PANELS:
        frame = numbers.query("layer == @layer and axis == @axis")
        upper = frame.iloc[len(frame) // 2 - 1 :] if len(frame) > 2 else frame
        row: dict[str, Any] = {"layer": layer, "axis": axis.replace("_", " ")}
        for measure, name in (("ms", "time"), ("mib", "memory")):
            row |= {name: _slope(upper["value"], upper[measure])}
            row |= {f"{name}, theory": _slope(upper["value"], _expected(layer, measure, axis, upper["value"]))}
        rows.append(row)
    return pd.DataFrame(rows)


def _expected(layer: str, measure: str, axis: str, values: pd.Series) -> pd.Series:
    return values.map(lambda value: theory(layer, **START | {axis: value})[measure])


def _slope(x: pd.Series, y: pd.Series) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def draw(numbers: pd.DataFrame) -> Figure:
    """Time and memory against each size, on logarithmic axes; dotted lines are theory."""
    axes_names = list(START)
    colours = dict(zip(("whitening", "pooling"), PALETTE, strict=False))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        panels = figure.subplots(2, len(axes_names), sharex="col", sharey="row")
        for column, axis in zip(panels.T, axes_names, strict=True):
            for panel, measure in zip(column, ("ms", "mib"), strict=True):
                for layer, colour in colours.items():
                    frame = numbers.query("layer == @layer and axis == @axis")
                    if len(frame):
                        panel.plot(frame["value"], frame[measure], color=colour, marker=MARKERS[layer], markersize=3.5)
                        expected = _expected(layer, measure, axis, frame["value"])
                        panel.plot(frame["value"], expected * (frame[measure] / expected).iloc[-1], ":", color=colour)
                panel.set(xscale="log", yscale="log")
            column[1].set_xlabel(axis.replace("_", " "))
        for row, measure in zip(panels, ("ms", "mib"), strict=True):
            row[0].set_ylim(numbers[measure].min() / 2, numbers[measure].max() * 2)
        panels[0, 0].set_ylabel("Milliseconds")
        panels[1, 0].set_ylabel("MiB")
        handles = [Line2D([], [], color=colour, marker=MARKERS[layer], label=layer) for layer, colour in colours.items()]
        handles.append(Line2D([], [], color=INK, linestyle=":", label="growth in theory, from the last point"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        return laid_out(figure)
