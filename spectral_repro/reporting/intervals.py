"""Intervals of a statistic over seeds."""

from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import binomtest

Statistic = Literal["mean", "median"]


def interval(values: pd.Series, statistic: Statistic = "mean") -> tuple[float, float]:
    """The 95 % percentile bootstrap interval; of the mean, what seaborn's ("ci", 95) is. NaN without values.

    All 1000 draws are made at once: a table of full runs has some ten thousand intervals.
    """
    if not len(values):
        return float("nan"), float("nan")
    draws = np.random.default_rng(0).choice(values, (1000, len(values)))
    return tuple(np.percentile(getattr(np, statistic)(draws, axis=1), (2.5, 97.5)))


def rate_interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson of the mean of values that are 0 or 100.

    Three successes of three do not prove a rate of 100 %: 29 to 100.
    """
    share = binomtest(int((values > 0).sum()), len(values)).proportion_ci(0.95)
    return 100 * share.low, 100 * share.high
