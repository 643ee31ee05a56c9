"""Intervals of a statistic over seeds."""

from typing import Literal

import numpy as np
import pandas as pd

Statistic = Literal["mean", "median"]


def interval(values: pd.Series, statistic: Statistic = "mean") -> tuple[float, float]:
    """The 95 % percentile bootstrap interval; of the mean, what seaborn's ("ci", 95) is. NaN without values.

    All 1000 draws are made at once: a table of full runs has some ten thousand intervals.
    """
    if not len(values):
        return float("nan"), float("nan")
    draws = np.random.default_rng(0).choice(values, (1000, len(values)))
    return tuple(np.percentile(getattr(np, statistic)(draws, axis=1), (2.5, 97.5)))
