"""The figures of a section."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from spectral_repro.reporting.curves import draw_curves
from spectral_repro.reporting.dots import draw_dots
from spectral_repro.reporting.metrics import LOSS
from spectral_repro.reporting.points import draw_points
from spectral_repro.reporting.profiles import draw_profiles
from spectral_repro.reporting.sections import Section
from spectral_repro.reporting.spectra import draw_spectra

CURVES = "Mean ± sample standard deviation over the finished seeds, or over interrupted ones as far as all of them came."
SPECTRA = (
    "Largest singular value of every layer, from input to output, after every epoch, with circular padding; "
    "mean over the seeds. TT layers count as one."
)


@dataclass(frozen=True)
class Picture:
    """A figure, what its files are named, what stands under it, and what it shows in words."""

    name: str
    figure: Figure
    caption: str
    description: str


def pictures(section: Section) -> list[Picture]:
    """What there is to see, the main one first."""
    table, found = section.table, []
    words = table.metric.words
    if points := draw_points(section):
        description = f"{words} against {section.table.axis.label}, {section.label}"
        found.append(Picture(f"{section.name}-axis", points, _points(section), description))
    if (table.axis is None or table.baseline) and (dots := draw_dots(section)):
        description = f"{words} of each method, sorted, {section.label}"
        found.append(Picture(f"{section.name}-sorted", dots, _dots(section), description))
    if curves := draw_curves(section):
        shown = " and ".join(dict.fromkeys((LOSS.words, words)))
        description = f"{shown} against the epoch, {section.label}"
        caption = f"{CURVES} Published curves have open markers." if section.published_epochs else CURVES
        found.append(Picture(section.name, curves, caption, description))
    if profiles := draw_profiles(section):
        description = f"{words} against {section.table.axis.label}, {section.label}"
        found.append(Picture(section.name, profiles, _profiles(section), description))
    if spectra := draw_spectra(section):
        description = f"Largest singular values over layers and epochs, {section.label}"
        found.append(Picture(f"{section.name}-spectra", spectra, SPECTRA, description))
    return found


def _dots(section: Section) -> str:
    text = "Mean over the seeds with its 95 % t interval, which one seed alone has not, and every seed; the best method on top"
    if section.published and section.across:
        text += "; published values in a panel and at a scale of their own"
    return f"{text}."


def _profiles(section: Section) -> str:
    text = "Mean over the finished seeds; band: one standard deviation of the repeats within a run"
    return f"{text}; published values with open markers." if section.published else f"{text}."


def _points(section: Section) -> str:
    text = "Mean ± sample standard deviation over the finished seeds, as in the table"
    if section.table.references:
        text += f"; level line and band: {', '.join(section.table.references)}"
    if section.published:
        text += "; published values " + ("in panels and at a scale of their own" if section.across else "with open markers")
    return f"{text}."
