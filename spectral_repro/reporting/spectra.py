"""The largest singular values of a section's runs, over layers and epochs."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from spectral_repro.reporting.figures import STYLE
from spectral_repro.reporting.sections import Entry, Section

ACROSS = 3  # panels side by side


def draw_spectra(section: Section) -> Figure | None:
    """A panel for each method: epochs to the right, layers from input to output downwards, all on one scale of colours.

    Exact values with circular padding, the mean over the finished and diverged seeds. None if no run has measured them.
    """
    values = {entry.row.label: _values(entry) for entry in section.entries}
    values = {label: frame for label, frame in values.items() if not frame.empty}
    if not values:
        return None
    rows, columns = -(-len(values) // ACROSS), min(ACROSS, len(values))
    seen = np.concatenate([frame.to_numpy().ravel() for frame in values.values()])
    least, most = np.nanmin(seen, initial=np.inf, where=seen > 0), np.nanmax(seen, initial=0)
    decades = most > 10 * least
    norm, ticks = (LogNorm(least, most), LogLocator(subs=(1, 2, 5))) if decades else (Normalize(0, most), None)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.4 + 2.1 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        panels, spare = grid[: len(values)], grid[len(values) :]
        for axes, (label, frame) in zip(panels, values.items(), strict=True):
            extent = (frame.columns[0] - 0.5, frame.columns[-1] + 0.5, len(frame) + 0.5, 0.5)
            drawn = axes.imshow(frame, norm=norm, cmap="viridis", aspect="auto", interpolation="nearest", extent=extent)
            axes.set_title(label, fontsize="medium")
            axes.grid(visible=False)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        for axes in spare:
            axes.remove()
        for axes in panels[::columns]:
            axes.set_ylabel("Layer")
        figure.supxlabel("Epoch", fontsize="medium")
        figure.colorbar(drawn, ax=panels, label="Largest singular value", ticks=ticks, format="{x:g}").minorticks_off()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _values(entry: Entry) -> pd.DataFrame:
    """A row for each layer, in their order, a column for each epoch."""
    measured = [run.spectra for run in entry.in_state("finished", "diverged") if not run.spectra.empty]
    if not measured:
        return pd.DataFrame()
    frame = pd.concat(measured).replace(np.inf, np.nan)
    values = frame.pivot_table("exact", "layer", "epoch", aggfunc="mean", sort=False, dropna=False)
    return values.loc[measured[0]["layer"].unique()]
