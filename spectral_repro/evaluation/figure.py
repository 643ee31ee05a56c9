"""evaluation.png: a panel for each measurement that can be drawn."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_repro.errors import UserError, first_line
from spectral_repro.evaluation.record import Record
from spectral_repro.reporting.style import INK, PALETTE, STYLE, image
from spectral_repro.training.files import write_whole

COLOUR = PALETTE[0]


def write_figure(record: Record) -> None:
    """Writes the figure of a record next to its file, if any of its measurements has a panel.

    Raises:
        UserError: if values of a measurement are missing, or the figure cannot be written.
    """
    try:
        figure = draw(record.entries)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{record.path}: damaged ({first_line(error)}); move it away to evaluate again") from error
    if figure is None:
        return
    path = record.path.with_suffix(".png")
    try:
        write_whole(path, image(figure, "png"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def draw(entries: dict[str, dict[str, Any]]) -> Figure | None:
    panels = {name: panel for name, panel in PANELS.items() if name in entries}
    if not panels:
        return None
    widths = [1.6 if name == "corruptions" else 1 for name in panels]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * sum(widths), 2.9), layout="constrained")
        for axes, (name, panel) in zip(
            figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0], panels.items(), strict=True
        ):
            panel(axes, entries[name])
            axes.set_title(entries[name]["conditions"], fontsize="medium")
        return figure


def _reliability(axes: Axes, entry: dict[str, Any]) -> None:
    """A reliability diagram: accuracy against confidence, with the share of images in the background."""
    bins = entry["bins"]
    images, confidence, accuracy = (np.array(bins[key], float) for key in ("images", "confidence", "accuracy"))
    number, shown = len(images), images > 0
    edges = np.arange(number) / number
    axes.bar(edges, images / images.sum(), 1 / number, align="edge", color="#8888884d")
    axes.bar(edges[shown], accuracy[shown], 1 / number, align="edge", fill=False, edgecolor=COLOUR)
    axes.plot(confidence[shown], accuracy[shown], "o", markersize=3, color=COLOUR, label="accuracy")
    axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8)
    error = "not finite" if entry["ece"] is None else f"{entry['ece']:.3f}"
    axes.set(xlabel="Confidence (grey: share of images)", ylabel=f"Accuracy (ECE {error})", xlim=(0, 1), ylim=(0, 1))


def _corruptions(axes: Axes, entry: dict[str, Any]) -> None:
    """The mean over the severities for each corruption, with their range as a line."""
    names, values = zip(*sorted(entry["accuracy"].items(), key=lambda pair: np.mean(pair[1])), strict=True)
    means = [np.mean(each) for each in values]
    axes.barh(range(len(names)), means, color=COLOUR, alpha=0.6)
    axes.hlines(range(len(names)), [min(each) for each in values], [max(each) for each in values], color=INK, linewidth=0.8)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize="x-small")
    axes.grid(visible=False, axis="y")
    axes.axvline(np.mean(means), color=INK, linestyle="--", linewidth=0.8)
    axes.set(xlabel=f"Accuracy (%), mean {np.mean(means):.1f}", xlim=(0, 100))


def _certificates(axes: Axes, entry: dict[str, Any]) -> None:
    axes.plot(entry["curve"]["radii"], entry["curve"]["accuracy"], color=COLOUR)
    axes.set(xlabel="L2 radius, pixels in [0, 1]", ylabel="Certified accuracy (%)", ylim=(0, 100))
    axes.set_xlim(left=0)


PANELS: dict[str, Callable[[Axes, dict[str, Any]], None]] = {
    "calibration": _reliability,
    "corruptions": _corruptions,
    "certificates": _certificates,
}
