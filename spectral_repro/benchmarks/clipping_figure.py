"""The figure of suite=clipping."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_repro.benchmarks.results import short
from spectral_repro.reporting.style import PALETTE, STYLE, laid_out


def draw(totals: pd.DataFrame) -> Figure:
    """A panel for each network, with the seconds of each way on a logarithmic axis, and its speed-up."""
    groups = list(totals.groupby("network", sort=False))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.6 + 0.24 * len(totals) + 0.4 * len(groups)), layout="constrained")
        panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (network, frame) in zip(panels, groups, strict=True):
            _dots(axes, frame)
            axes.set_xlim(totals["seconds"].min() / 3, totals["seconds"].max() * 4)
            axes.set_title(network, fontsize="medium")
        panels[-1].set_xlabel("Seconds")
        return laid_out(figure)


def _dots(axes: Axes, frame: pd.DataFrame) -> None:
    place = np.arange(len(frame))
    for operation, colour, marker in zip(frame["operation"].unique(), PALETTE, "os", strict=False):
        own = (frame["operation"] == operation).to_numpy()
        axes.plot(frame["seconds"][own], place[own], color=colour, marker=marker, markersize=6, linestyle="none")
    for y, row in zip(place, frame.itertuples(), strict=True):
        axes.annotate(
            f"{short(row.speedup)}×", (row.seconds, y), (7, 0), textcoords="offset points", va="center", fontsize="small"
        )
    axes.set(yticks=place, yticklabels=frame["operation"] + ": " + frame["way"], xscale="log")
    axes.invert_yaxis()
