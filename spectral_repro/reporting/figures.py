"""A section as a figure: training loss and the paper's metric against the epoch."""

from html import escape
from io import BytesIO, StringIO
from itertools import cycle

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spectral_repro.reporting.sections import Section

INK = "#1b1b1f"  # text and axes; the page puts its own colour there
STYLE = (
    sns.axes_style("ticks", {"axes.grid": True, "grid.color": "#8888883d", "grid.linewidth": 0.6})
    | sns.plotting_context("paper", font_scale=0.95)
    | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    | {"font.sans-serif": ["DejaVu Sans"], "lines.linewidth": 1.4, "axes.linewidth": 0.8, "pdf.fonttype": 42}
    | {"svg.hashsalt": "spectral_repro", "axes.spines.top": False, "axes.spines.right": False}
)
DASHES = ("", (4, 1.5), (1, 1), (3, 1.25, 1.5, 1.25), (5, 1, 1, 1))  # so that lines on top of each other stay visible
UNDATED = {"png": {}, "pdf": {"CreationDate": None}}


def draw(section: Section) -> Figure | None:
    """One line for each method: the mean over the finished seeds with its 95 % percentile bootstrap interval; every
    diverged run by itself, up to a cross. None if no run has come to its end.
    """
    if not section.results:
        return None
    labels = [entry.row.label for entry in section.entries]
    colours = dict(zip(labels, cycle(sns.color_palette("colorblind", 10)), strict=False))
    dashes = dict(zip(labels, cycle(DASHES), strict=False))
    entries = _legend(section, colours, dashes)
    rows = -(-len(entries) // (2 if max(len(entry.get_label()) for entry in entries) > 28 else 3))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.7 + 0.18 * rows), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06)
        loss, metric = figure.subplots(1, 2)
        _panel(loss, section, "train_loss", colours, dashes)
        _panel(metric, section, section.paper.metric, colours, dashes)
        if loss.dataLim.y1 > 10 * loss.dataLim.minposy:
            loss.set_yscale("log")  # only now: on a logarithmic axis seaborn takes geometric means
        loss.set(ylabel="Training loss (nats)")
        metric.set(ylabel=f"{section.paper.metric_name} (%)")
        figure.legend(handles=entries, loc="outside lower center", ncols=-(-len(entries) // rows), frameon=False)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for all formats
    return figure


def _panel(axes: Axes, section: Section, metric: str, colours: dict[str, tuple], dashes: dict[str, tuple]) -> None:
    curves = [
        pd.DataFrame({"epoch": run.metrics["epoch"], "method": entry.row.label, metric: run.metrics[metric]})
        for entry in section.entries
        for run in entry.in_state("finished")
    ]
    if curves:
        data = pd.concat(curves, ignore_index=True)
        marker = "o" if data["epoch"].max() <= 20 else None
        sns.lineplot(
            data, x="epoch", y=metric, hue="method", palette=colours, hue_order=list(colours), style="method", dashes=dashes,
            errorbar=("ci", 95), seed=0, err_kws={"alpha": 0.2, "linewidth": 0}, legend=False, ax=axes,
            marker=marker, markersize=3.5, markeredgewidth=0,
        )  # fmt: skip
    for entry in section.entries:
        for run in entry.in_state("diverged"):
            rows = run.metrics[np.isfinite(run.metrics[metric])]
            where = {"transform": axes.get_xaxis_transform(), "clip_on": False} if rows.empty else {}
            x, y = ([0], [0]) if rows.empty else (rows["epoch"], rows[metric])
            axes.plot(x, y, "--", color=colours[entry.row.label], linewidth=1, marker="x", markevery=[-1], **where)
    axes.set(xlabel="Epoch", xlim=(0, 1.02 * section.protocol["trainer.epochs"]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(section: Section, colours: dict[str, tuple], dashes: dict[str, tuple]) -> list[Line2D]:
    shown = [entry.row.label for entry in section.entries if entry.in_state("finished", "diverged")]
    handles = [Line2D([], [], color=colours[label], dashes=dashes[label] or (1, 0), label=label) for label in shown]
    if any(run.state == "diverged" for run in section.results):
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, marker="x", label="a run that diverged"))
    return handles


def image(figure: Figure, kind: str) -> bytes:
    """The figure as png (200 dpi) or pdf; the same bytes for the same runs."""
    with matplotlib.rc_context(STYLE), BytesIO() as buffer:
        figure.savefig(buffer, format=kind, dpi=200, metadata=UNDATED[kind])
        return buffer.getvalue()


def svg(figure: Figure, description: str) -> str:
    """The figure as an element of a page: transparent, in the text's colour."""
    with matplotlib.rc_context(STYLE), StringIO() as buffer:
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        drawing = buffer.getvalue()
    inner = drawing[drawing.index(">", drawing.index("<svg")) + 1 :].replace(INK, "currentColor")
    width, height = figure.get_size_inches() * 72
    return f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}">{inner}'
