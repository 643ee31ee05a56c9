"""A section's training: loss and the table's metric against the epoch."""

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spectral_repro.reporting.figures import INK, STYLE, Look, finish, looks
from spectral_repro.reporting.intervals import interval
from spectral_repro.reporting.metrics import LOSS, Metric
from spectral_repro.reporting.papers import Table
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Section

Lines = list[tuple[str, Entry]]
PUBLISHED = {"linewidth": 0.7, "marker": "o", "markersize": 3.5, "markerfacecolor": "none", "markeredgewidth": 0.7}


def draw_curves(section: Section) -> Figure | None:
    """One line for each method: the mean over the finished seeds with its 95 % t interval, or over the interrupted ones as
    far as all of them came; every diverged run by itself, up to a cross. None for a time, a study, or what
    is measured after the training or after some epoch, if no run has come to its end, or if the epochs of one are not known.

    Published curves have open markers.

    Where the table's axis has several series, they are the methods, in a column of panels for each value on the axis; the rows
    beside the axis are in every column.
    """
    table = section.table
    known = all(run.whole or run.metrics.empty for run in section.results)
    if not table.metric.trained or table.metric.measurement or any(row.over for row in table.rows):
        return None
    if not section.results or not known:
        return None
    ended = [entry for entry in section.entries if entry.in_state("finished", "diverged", "interrupted")]
    metrics = list(dict.fromkeys((LOSS, table.metric)))
    values = sorted({entry.row.at for entry in ended if entry.row.series}) if len(table.series) > 1 else []
    if values:
        look_of = looks(table.series, table.references)
        columns = [[(each.row.series or each.row.label, each) for each in ended if each.row.at in (None, at)] for at in values]
    else:
        look_of = looks(entry.row.label for entry in section.entries)
        columns = [[(each.row.label, each) for each in ended]]
    with matplotlib.rc_context(STYLE):
        figure, panels = _small_panels(table, metrics, values) if values else _panels_side_by_side(metrics)
        epochs = max(section.protocol["trainer.epochs"], section.published_epochs)
        for metric, row in zip(metrics, panels, strict=True):
            for axes, lines in zip(row, columns, strict=True):
                _draw(axes, lines, metric, look_of)
                if metric is LOSS and section.published_epochs:
                    _draw_published(axes, lines, look_of)
                axes.set(xlabel="Epoch", ylabel=metric.label, xlim=(0, 1.02 * epochs))
                axes.xaxis.set_major_locator(MaxNLocator(nbins=4 if values else 10, integer=True))
                if values:
                    axes.label_outer()
            limits = [axes.dataLim for axes in row]
            if metric.unit == "nats" and max(each.y1 for each in limits) > 10 * min(each.minposy for each in limits):
                row[0].set_yscale("log")  # only now: on a logarithmic axis seaborn takes geometric means
        drawn = {line for lines in columns for line, _ in lines}
        handles = [look.handle(line) for line, look in look_of.items() if line in drawn]
        if any(run.state == "diverged" for run in section.results):
            handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, marker="x", label="a run that diverged"))
        if section.published_epochs:
            handles.append(Line2D([], [], color=INK, label="published", **PUBLISHED))
        return finish(figure, handles)


def _panels_side_by_side(metrics: list[Metric]) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    return figure, figure.subplots(1, len(metrics), squeeze=False).T


def _small_panels(table: Table, metrics: list[Metric], values: list[float]) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(max(7.2, 1.44 * len(values)), 0.5 + 1.7 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), len(values), sharex=True, sharey="row", squeeze=False)
    figure.suptitle(table.axis.label, fontsize="medium")
    for axes, value in zip(panels[0], values, strict=True):
        axes.set_title(f"{value:g}")
    return figure, panels


def _draw(axes: Axes, lines: Lines, metric: Metric, look_of: dict[str, Look]) -> None:
    curves = [
        _of_metric(rows, metric).assign(line=line)
        for line, entry in lines
        for rows in _common(entry.in_state("finished") or entry.in_state("interrupted"))
        if not rows.empty
    ]
    if curves:
        data = pd.concat(curves, ignore_index=True)
        marker = "o" if data["epoch"].max() <= 20 else None
        before = len(axes.lines)
        sns.lineplot(
            data, x="epoch", y="value", errorbar=interval, err_kws={"alpha": 0.2, "linewidth": 0},
            hue="line", hue_order=list(look_of), palette={line: look.colour for line, look in look_of.items()},
            style="line", dashes={line: look.dashes for line, look in look_of.items()},
            marker=marker, markersize=3.5, markeredgewidth=0, legend=False, ax=axes,
        )  # fmt: skip
        known = set(data.dropna()["line"])
        for drawn, line in zip(axes.lines[before:], (line for line in look_of if line in known), strict=True):
            drawn.set_label(line)
    for line, entry in lines:
        for run in entry.in_state("diverged"):
            rows = _of_metric(run.metrics, metric)
            rows = rows[np.isfinite(rows["value"])]
            where = {"transform": axes.get_xaxis_transform(), "clip_on": False} if rows.empty else {}
            x, y = ([0], [0]) if rows.empty else (rows["epoch"], rows["value"])
            label = f"{line}, seed {run.seed}, diverged"
            axes.plot(x, y, "--", color=look_of[line].colour, linewidth=1, marker="x", markevery=[-1], label=label, **where)


def _of_metric(rows: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Columns epoch and value of metrics.csv; NaN where it lacks the metric, as that of a run without an epoch may."""
    return rows.reindex(columns=["epoch", metric.column]).set_axis(["epoch", "value"], axis="columns")


def _common(runs: list[Run]) -> list[pd.DataFrame]:
    """Their rows, up to the last epoch that all of them have."""
    epochs = min((len(run.metrics) for run in runs), default=0)
    return [run.metrics[:epochs] for run in runs]


def _draw_published(axes: Axes, lines: Lines, look_of: dict[str, Look]) -> None:
    for line, entry in lines:
        if entry.row.curve:
            curve = pd.Series(entry.row.curve, pd.RangeIndex(1, 1 + len(entry.row.curve)), dtype=float).dropna()
            axes.plot(curve, color=look_of[line].colour, label=f"{line}, published", **PUBLISHED)
