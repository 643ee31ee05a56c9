"""A section's methods one below the other, the best on top."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_repro.reporting.figures import INK, PALETTE, STYLE, finish
from spectral_repro.reporting.intervals import interval
from spectral_repro.reporting.sections import Section

SEEDS = {"color": PALETTE[0], "linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
MEAN = {"color": INK, "linestyle": "none", "marker": "D", "markersize": 4}
INTERVAL = {"color": "#8b8b93", "linewidth": 2.2, "solid_capstyle": "butt"}
PUBLISHED = {"color": PALETTE[5], "linestyle": "none", "marker": "s", "markersize": 4.5, "markerfacecolor": "none"}
BASELINE = {"color": INK, "linewidth": 0.8, "linestyle": (0, (4, 2))}


def draw_dots(section: Section) -> Figure | None:
    """The mean over the seeds of each method with its 95 % t interval, and every seed; sorted, the best on top.

    A dashed line goes through the mean of a comparison's baseline. Published values have open squares, in a panel of their own
    where a protocol or a machine lies between them and ours. None for a study, or for fewer than two methods with a result.
    """
    table, metric = section.table, section.table.metric
    values = {entry.row.label: section.values(entry, metric).dropna() for entry in section.entries}
    values = {label: each for label, each in values.items() if len(each)}
    if metric.study or len(values) < 2:
        return None
    labels = sorted(values, key=lambda label: values[label].mean(), reverse=metric.best == "max")[::-1]
    published = {entry.row.label: entry.row.published.get(table.statistic) for entry in section.entries}
    published = {label: value for label, value in published.items() if value is not None} if section.published else {}
    apart = bool(section.across and published.keys() & values.keys())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.7 + 0.2 * len(labels)), layout="constrained")
        panels = figure.subplots(1, 1 + apart, sharey=True, squeeze=False)[0]
        ends = [_draw(panels[0], place, values[label], label) for place, label in enumerate(labels)]
        for place, label in enumerate(labels):
            if label in published:
                panels[-1].plot(published[label], place, **PUBLISHED, label=f"_{label}, published")
        panels[0].set_yticks(range(len(labels)), labels=labels)
        panels[0].set(xlabel=metric.label, ylim=(-0.6, len(labels) - 0.4))
        panels[0].grid(visible=False, axis="y")
        if metric.unit == "%" and np.isfinite(ends).all():  # what no share can reach is not shown
            low, high = panels[0].get_xlim()
            panels[0].set_xlim(max(low, 0.0), min(high, 100.0))
        if apart:
            panels[0].set_title("Measured", fontsize="medium")
            panels[1].set_title("Published", fontsize="medium")
            panels[1].set_xlabel(metric.label)
            panels[1].grid(visible=False, axis="y")
        handles = [Line2D([], [], label="mean", **MEAN)]
        if any(len(each) > 1 for each in values.values()):
            handles += [Line2D([], [], label="its 95 % t interval", **INTERVAL), Line2D([], [], label="a seed", **SEEDS)]
        if table.baseline in values:
            panels[0].axvline(values[table.baseline].mean(), zorder=0, **BASELINE)
            handles.append(Line2D([], [], label=f"mean of {table.baseline}", **BASELINE))
        if published.keys() & values.keys():
            handles.append(Line2D([], [], label="published", **PUBLISHED))
        return finish(figure, handles)


def _draw(axes: Axes, place: int, values: pd.Series, label: str) -> tuple[float, float]:
    """Returns the ends of the interval, of a single seed the seed. No line has a label that a page shows under the pointer."""
    low, high = interval(values) if len(values) > 1 else (values.iloc[0],) * 2
    if len(values) > 1:
        axes.plot((low, high), (place, place), label=f"_{label}", **INTERVAL)
        axes.plot(values, np.full(len(values), place), label=f"_{label}", **SEEDS)
    axes.plot(values.mean(), place, label=f"_{label}, mean", **MEAN)
    return low, high
