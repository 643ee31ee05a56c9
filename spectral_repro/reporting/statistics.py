"""Statistics of the methods of a section: spread, intervals, and differences over common seeds."""

import numpy as np
import pandas as pd

from spectral_repro.reporting.intervals import interval, rate_interval
from spectral_repro.reporting.sections import Section

COLUMNS = ("method", "seeds", "mean", "std", "median", "best", "low", "high")


@np.errstate(invalid="ignore")  # infinite values have no standard deviation
def statistics(section: Section) -> pd.DataFrame:
    """A row for each method with a result, in the unit of the metric.

    Columns: method; seeds (with a value), mean, std (sample), median, best, low and high (the 95 % t interval of the mean). For
    trainings also success_rate = 100 finished / (finished + diverged), and its 95 % Clopper-Pearson interval from success_low
    to success_high. difference is the mean difference to the row of `reference` over common seeds, with its interval from
    difference_low to difference_high, and pairs is the number of these seeds. NaN if a value is not defined.
    """
    metric, compared_with = section.table.metric, reference(section)
    shown = [entry for entry in section.entries if entry.measured or entry.in_state("diverged")]
    measured = {entry.row.label: section.values(entry, metric).dropna() for entry in shown}
    others = measured.get(compared_with or "", pd.Series(dtype=float))
    rows = []
    for entry in shown:
        values = measured[entry.row.label]
        low, high = interval(values)
        best = values.agg(metric.best) if metric.best else float("nan")
        row = {"method": entry.row.label, "seeds": len(values), "mean": values.mean(), "std": values.std(ddof=1)}
        row |= {"median": values.median(), "best": best, "low": low, "high": high}
        if metric.trained and len(rate := entry.successes):
            row |= {"success_rate": rate.mean()} | dict(zip(("success_low", "success_high"), rate_interval(rate), strict=True))
        if entry.row.label != compared_with:
            row |= _paired(values, others)
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else COLUMNS)


def reference(section: Section) -> str | None:
    """The label of the row that differences refer to: the baseline of a comparison, or else the first row with a value."""
    with_values = (entry.row.label for entry in section.entries if section.values(entry, section.table.metric).count())
    return section.table.baseline or next(with_values, None)


def best_within_noise(section: Section) -> set[str]:
    """The labels of the best mean, and of those that do not differ from it significantly: the 95 % t interval of the difference
    over common seeds contains 0. Empty if the best has only one seed, and for a metric in which no value is better.
    """
    metric = section.table.metric
    values = {entry.row.label: section.values(entry, metric) for entry in section.entries}
    values = {label: own[np.isfinite(own)] for label, own in values.items()}
    means = {label: own.mean() for label, own in values.items() if len(own)}
    if metric.best is None or len(means) < 2:
        return set()
    best = (max if metric.best == "max" else min)(means, key=means.__getitem__)
    if len(values[best]) < 2:
        return set()
    found = {best}
    for label in means:
        differences = (values[label] - values[best]).dropna()
        low, high = interval(differences)
        if low <= 0 <= high or (len(differences) > 1 and not differences.any()):
            found.add(label)
    return found


def _paired(values: pd.Series, reference: pd.Series) -> dict[str, float]:
    differences = (values - reference).dropna()
    low, high = interval(differences)
    return {"difference": differences.mean(), "difference_low": low, "difference_high": high, "pairs": len(differences)}
