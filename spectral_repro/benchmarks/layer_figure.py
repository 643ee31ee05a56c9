"""The figure of suite=layers."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_repro.reporting.style import INK, PALETTE, STYLE, laid_out


def draw(numbers: pd.DataFrame) -> Figure:
    """A panel of bars for each family and input: time of the forward and backward pass, and its ratio to the plain layer's."""
    groups = list(numbers.groupby(["family", "input"], sort=False))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.6 + 0.24 * len(numbers) + 0.55 * len(groups)), layout="constrained")
        heights = [len(frame) for _, frame in groups]
        panels = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, ((family, shape), frame) in zip(panels, groups, strict=True):
            _bars(axes, frame)
            axes.set_title(f"{family}, features {shape}", fontsize="medium")
        panels[-1].set_xlabel("Milliseconds")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        return laid_out(figure)


def _bars(axes: Axes, frame: pd.DataFrame) -> None:
    place, forward = np.arange(len(frame)), frame["forward_ms"]
    first, second = PALETTE[:2]
    axes.barh(place, forward, color=first, label="forward", height=0.7)
    axes.barh(place, frame["total_ms"] - forward, left=forward, color=second, label="backward", height=0.7)
    spread = [frame["total_ms"] - frame["total_low_ms"], frame["total_high_ms"] - frame["total_ms"]]
    axes.errorbar(frame["total_ms"], place, xerr=spread, fmt="none", color=INK, linewidth=0.8)
    for y, row in zip(place, frame.itertuples(), strict=True):
        text = f"{row.relative_time:.1f}×" if row.relative_time < 100 else f"{row.relative_time:.0f}×"
        axes.annotate(text, (row.total_high_ms, y), (4, 0), textcoords="offset points", va="center", fontsize="small")
    axes.set(yticks=place, yticklabels=frame["layer"], xlim=(0, 1.12 * frame["total_high_ms"].max()))
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
