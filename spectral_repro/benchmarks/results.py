"""The result of a suite: numbers, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Display:
    """A table of strings or a figure, with a title and a caption."""

    name: str
    title: str
    caption: str
    table: pd.DataFrame | None = None
    figure: Figure | None = None


@dataclass(frozen=True)
class SuiteResult:
    """What a suite measured: ``notes`` about all of it, ``numbers`` by the names of their CSV files, and tables and figures."""

    title: str
    notes: Sequence[str]
    numbers: dict[str, pd.DataFrame]
    displays: Sequence[Display]


def short(value: float) -> str:
    """The value with two digits, as a power of ten outside 0.001 to 1000; a dash for NaN."""
    if pd.isna(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.2g}" if abs(value) < 99.5 else f"{value:.0f}"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit}e{int(exponent)}".replace("-", "−")
