"""Training curves of a section: the loss and the metric of the table against the epoch."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spectral_repro.reporting.metrics import LOSS, Metric
from spectral_repro.reporting.papers import Table
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Section
from spectral_repro.reporting.style import INK, MOST_LINES, STYLE, Look, add_legend, laid_out, legend_height, looks

Lines = list[tuple[str, Entry]]
PUBLISHED = {"linewidth": 0.7, "marker": "o", "markersize": 3.5, "markerfacecolor": "none", "markeredgewidth": 0.7}


@dataclass(frozen=True)
class Block:
    """Panels with one legend: the look of each line, and the lines in each column of panels."""

    look_of: dict[str, Look]
    columns: list[Lines]

    @property
    def drawn(self) -> set[str]:
        return {line for lines in self.columns for line, _ in lines}


def draw_curves(section: Section) -> Figure | None:
    """One line for each method: the mean over the seeds, with a band of one sample standard deviation.

    The finished seeds are used, or else the interrupted ones up to the last epoch that all of them have. Each diverged run has
    its own line, which ends in a cross. Several runs of a seed count as their mean. Published curves have open markers. More
    than `MOST_LINES` methods are drawn in several rows of panels, each with the baseline of a comparison. If the axis of the
    table has several series, they are the lines, with a column of panels for each value on the axis; rows that are not on the
    axis are in every column.

    Returns:
        The figure. None if the metric is a time, belongs to a study, or is not measured after every epoch, if no run has a
        result, or if some epochs of a run are missing.
    """
    table = section.table
    known = all(run.whole or run.metrics.empty for run in section.results)
    if not table.metric.trained or table.metric.measurement or any(row.over for row in table.rows):
        return None
    if not section.results or not known:
        return None
    if any("trainer.epochs" not in run.identity for run in section.runs):  # a study has no epochs
        return None
    metrics = list(dict.fromkeys((LOSS, table.metric)))
    ended = [entry for entry in section.entries if entry.in_state("finished", "diverged", "interrupted")]
    places_on_axis = {entry.row.at for entry in ended if entry.row.series and entry.row.at is not None}
    values = sorted(places_on_axis) if len(table.series) > 1 else []
    blocks = _blocks(table, ended, values)
    with matplotlib.rc_context(STYLE):
        height = 0.5 + 1.7 * len(metrics) if values else 2.7
        handles = [_handles(section, block) for block in blocks]
        heights = [height + legend_height(each) for each in handles]
        figure = Figure(figsize=(max(7.2, 1.44 * len(values)), sum(heights)), layout="constrained")
        places = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0] if len(blocks) > 1 else [figure]
        panels = [_panels(place, table, metrics, values) for place in places]
        epochs = max(section.published_epochs, *(run.identity["trainer.epochs"] for run in section.runs))
        for metric, rows in zip(metrics, zip(*panels, strict=True), strict=True):
            for block, row in zip(blocks, rows, strict=True):
                for axes, lines in zip(row, block.columns, strict=True):
                    _draw(axes, lines, metric, block.look_of)
                    if metric is LOSS and section.published_epochs:
                        _draw_published(axes, lines, block.look_of)
                    axes.set(xlabel="Epoch", ylabel=metric.label, xlim=(0, 1.02 * epochs))
                    axes.xaxis.set_major_locator(MaxNLocator(nbins=4 if values else 10, integer=True))
                    if values:
                        axes.label_outer()
            _scale_together(metric, [axes for row in rows for axes in row])
        for place, each in zip(places, handles, strict=True):
            add_legend(place, each)
        return laid_out(figure)


def _blocks(table: Table, ended: list[Entry], values: list[float]) -> list[Block]:
    """The methods in blocks of at most `MOST_LINES`."""
    if values:
        shared, lines = table.references, table.series
    else:
        shared, lines = [], [entry.row.label for entry in ended]
        if table.baseline in lines and len(lines) > MOST_LINES:
            shared = [table.baseline]
            lines.remove(table.baseline)
    size = max(MOST_LINES - len(shared), 1)
    blocks = []
    for start in range(0, max(len(lines), 1), size):
        look_of = looks(lines[start : start + size], shared)
        named = [(each.row.series if values and each.row.series else each.row.label, each) for each in ended]
        own = [(line, each) for line, each in named if line in look_of]
        blocks.append(Block(look_of, [[pair for pair in own if pair[1].row.at in (None, at)] for at in values] or [own]))
    return [block for block in blocks if not block.drawn <= set(shared)] or blocks[:1]


def _handles(section: Section, block: Block) -> list[Line2D]:
    handles = [look.handle(line) for line, look in block.look_of.items() if line in block.drawn]
    if any(run.state == "diverged" for run in section.results):
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, marker="x", label="a run that diverged"))
    if section.published_epochs:
        handles.append(Line2D([], [], color=INK, label="published", **PUBLISHED))
    return handles


def _panels(place: FigureBase, table: Table, metrics: list[Metric], values: list[float]) -> np.ndarray:
    """The axes of a block, with a row for each metric."""
    if not values:
        return place.subplots(1, len(metrics), squeeze=False).T
    panels = place.subplots(len(metrics), len(values), sharex=True, sharey="row", squeeze=False)
    place.suptitle(table.axis.label if table.axis else "", fontsize="medium")
    for axes, value in zip(panels[0], values, strict=True):
        axes.set_title(f"{value:g}")
    return panels


def _scale_together(metric: Metric, panels: list[Axes]) -> None:
    """Gives all panels of a metric the same limits, at most 0 to 100 %; logarithmic for a loss over a factor of 10."""
    limits = [axes.dataLim for axes in panels]
    if metric.unit == "nats" and max(each.y1 for each in limits) > 10 * min(each.minposy for each in limits):
        for axes in panels:
            axes.set_yscale("log")
    ends = np.array([axes.get_ylim() for axes in panels if axes.has_data()])
    if len(ends):
        low, high = ends[:, 0].min(), ends[:, 1].max()
        for axes in panels:
            axes.set_ylim((max(low, 0.0), min(high, 100.0)) if metric.unit == "%" else (low, high))


def _draw(axes: Axes, lines: Lines, metric: Metric, look_of: dict[str, Look]) -> None:
    curves: defaultdict[str, list[Any]] = defaultdict(list)
    for line, entry in lines:
        curves[line] += _by_seed(entry.in_state("finished") or entry.in_state("interrupted"), metric)
    for line, look in look_of.items():
        if not curves[line]:
            continue
        values = pd.concat(curves[line], axis="columns").dropna(how="all")
        if values.empty:
            continue
        mean, spread = values.mean(axis="columns"), values.std(axis="columns", ddof=1)
        marker = {"marker": "o", "markersize": 3.5, "markeredgewidth": 0} if values.index.max() <= 20 else {}
        axes.plot(mean, color=look.colour, dashes=look.dashes or (1, 0), label=line, **marker)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=look.colour, alpha=0.2, linewidth=0)
    for line, entry in lines:
        for run in entry.in_state("diverged"):
            rows = _of_metric(run.metrics, metric)
            rows = rows[np.isfinite(rows["value"])]
            where = {"transform": axes.get_xaxis_transform(), "clip_on": False} if rows.empty else {}
            x, y = ([0], [0]) if rows.empty else (rows["epoch"], rows["value"])
            label = f"{line}, seed {run.seed}, diverged"
            axes.plot(x, y, "--", color=look_of[line].colour, linewidth=1, marker="x", markevery=[-1], label=label, **where)


def _of_metric(rows: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The epochs and a metric from metrics.csv, as columns epoch and value; NaN if a value is infinite or missing."""
    values = rows.reindex(columns=["epoch", metric.column]).set_axis(["epoch", "value"], axis="columns")
    return values.replace([np.inf, -np.inf], np.nan)


def _by_seed(runs: list[Run], metric: Metric) -> list[pd.Series]:
    """The metric of each seed by epoch, as the mean over its runs, up to the last epoch that all runs have."""
    epochs, values = min((len(run.metrics) for run in runs), default=0), defaultdict(list)
    for run in runs:
        values[run.seed].append(_of_metric(run.metrics[:epochs], metric).set_index("epoch")["value"])
    return [pd.concat(own, axis="columns").mean(axis="columns") for own in values.values()] if epochs else []


def _draw_published(axes: Axes, lines: Lines, look_of: dict[str, Look]) -> None:
    for line, entry in lines:
        if entry.row.curve:
            curve = pd.Series(entry.row.curve, pd.RangeIndex(1, 1 + len(entry.row.curve)), dtype=float).dropna()
            axes.plot(curve, color=look_of[line].colour, label=f"{line}, published", **PUBLISHED)
