"""A study's measurements by layer or width."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from spectral_repro.reporting.figures import INK, STYLE, Look, finish, looks
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Section

PUBLISHED = {"linewidth": 0.8, "marker": "o", "markersize": 4.5, "markerfacecolor": "none"}


def draw_profiles(section: Section) -> Figure | None:
    """One line for each series: the mean over the finished seeds, with a band of one standard deviation of the repeats in them.

    Published values have open markers, at both ends where they are a mean over a range. None for a training, without an axis,
    or if no run has come to its end.
    """
    table, axis = section.table, section.table.axis
    if not table.metric.study or axis is None or not section.results:
        return None
    look_of = looks(table.series)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=axis.label, ylabel=table.metric.label)
        runs_of = {entry.row.series: entry.in_state("finished") for entry in section.entries}
        drawn = [line for line in look_of if runs_of[line]]
        for line in drawn:
            _draw(axes, line, runs_of[line], table.metric.name, look_of[line])
        for row in table.rows if section.published else ():
            if "mean" in row.published:
                axes.plot(row.over, [row.published["mean"]] * 2, color=look_of[row.series].colour, **PUBLISHED)
        if axis.log:
            ticks = sorted({at for row in table.rows for at in row.over})
            axes.set_xscale("log")
            axes.set_xticks(ticks, labels=[f"{at:g}" for at in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        handles = [look_of[line].handle(line) for line in drawn]
        if section.published:
            handles.append(Line2D([], [], color=INK, label="published", **PUBLISHED))
        return finish(figure, handles)


def _draw(axes: Axes, line: str, runs: list[Run], column: str, look: Look) -> None:
    tables = pd.concat([run.metrics for run in runs])
    by_place = tables.replace(-np.inf, np.nan).groupby(tables.columns[0])
    mean, variance = by_place[column].mean(), by_place[f"{column}_std"].agg(lambda each: each.pow(2).mean())
    spread = np.sqrt(variance)
    marker = look.marker if len(mean) <= 20 else None
    axes.plot(mean, color=look.colour, dashes=look.dashes or (1, 0), marker=marker, markersize=3.5, label=line)
    axes.fill_between(mean.index, mean - spread, mean + spread, color=look.colour, alpha=0.2, linewidth=0)
