"""A section's table against its axis: a line of points for each series."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from spectral_repro.reporting.figures import INK, STYLE, Look, finish, looks
from spectral_repro.reporting.sections import Section
from spectral_repro.reporting.tables import aggregate

MEASURED, PUBLISHED = "", "published_"  # what the names of their columns begin with
TITLES = {MEASURED: "Measured", PUBLISHED: "Published"}
MOST_TICKS = 5  # on a linear axis, at the values themselves
HEIGHTS = {"mean": 2.6, "success_rate": 0.9}


def draw_points(section: Section) -> Figure | None:
    """The table's means and sample standard deviations against its axis; rows beside the axis are level lines with a band.

    Under them stand the success rates, if any is below 100 %. Published values have open markers, and panels of their own where
    a protocol or a machine lies between them and ours. None without an axis, for a study, or if no run has come to its end.
    """
    table, axis = section.table, section.table.axis
    if axis is None or table.metric.study or not section.results:
        return None
    sources = [MEASURED, PUBLISHED] if section.published else [MEASURED]
    columns = [[source] for source in sources] if section.across else [sources]
    together = len(columns) < len(sources)
    frame, look_of = _placed(section), looks(table.series, table.references)
    quantities = ["mean", "success_rate"] if (frame.filter(like="success_rate") < 100).any(axis=None) else ["mean"]
    heights = [HEIGHTS[quantity] for quantity in quantities]
    known = frame[[f"{source}{quantity}" for source in sources for quantity in quantities]].notna().any(axis=1)
    drawn = set(frame.loc[known, "line"])
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.3 + sum(heights)), layout="constrained")
        panels = figure.subplots(len(heights), len(columns), sharex=True, squeeze=False, height_ratios=heights)
        for quantity, row in zip(quantities, panels, strict=True):
            for axes, shown in zip(row, columns, strict=True):
                for source in shown:
                    _draw(axes, frame, source, quantity, look_of, joined=source == shown[0])
                if not axes.has_data():
                    text = "no finished run" if MEASURED in shown else "not published"
                    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
                if quantity == "mean":
                    axes.set(ylabel=table.metric.label, title="" if len(columns) == 1 else TITLES[shown[0]])
                else:
                    axes.set(ylabel="Success (%)", ylim=(-12, 112), yticks=(0, 50, 100))
        for axes in panels[-1]:
            axes.set_xlabel(axis.label)
        values = sorted(set(frame["at"].dropna()))
        if axis.log:
            axes.set_xscale("log")
        if axis.log or len(values) <= MOST_TICKS:
            axes.set_xticks(values, labels=[f"{value:g}" for value in values])
            axes.xaxis.set_minor_locator(NullLocator())
        handles = [look.handle(line, marker=look.marker) for line, look in look_of.items() if line in drawn]
        if together:
            handles.append(Line2D([], [], color=INK, linestyle="none", marker="o", markerfacecolor="none", label="published"))
        return finish(figure, handles)


def _placed(section: Section) -> pd.DataFrame:
    """The table's numbers, each row with its line and its place on the axis."""
    frame = aggregate(section)
    frame["line"] = [row.series or row.label for row in section.table.rows]
    frame["at"] = pd.Series([row.at for row in section.table.rows], dtype=float)
    return frame


def _draw(axes: Axes, frame: pd.DataFrame, source: str, quantity: str, look_of: dict[str, Look], joined: bool) -> None:
    for line, rows in frame.sort_values("at").groupby("line", sort=False):
        look, values = look_of[line], rows[f"{source}{quantity}"]
        spread = rows[f"{source}std"] if quantity == "mean" else None
        if values.isna().all():
            continue
        if look.marker:
            joint = {"dashes": look.dashes} if joined else {"linestyle": "none"}
            points, *_ = axes.errorbar(
                rows["at"], values, spread, color=look.colour, **joint, elinewidth=1, capsize=2,
                marker=look.marker, markersize=4, markerfacecolor="none" if source == PUBLISHED else None,
            )  # fmt: skip
            points.set_label(f"{line}, published" if source == PUBLISHED else line)
            continue
        axes.axhline(values.item(), color=look.colour, linewidth=1, linestyle=":" if source == PUBLISHED else "-")
        if spread is not None and spread.notna().all():
            low, high = (values - spread).item(), (values + spread).item()
            axes.axhspan(low, high, color=look.colour, alpha=0.12, linewidth=0)
