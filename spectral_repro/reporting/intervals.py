"""Intervals of a statistic over seeds."""

from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

Statistic = Literal["mean", "median"]


def interval(values: pd.Series | np.ndarray, statistic: Statistic = "mean") -> tuple[float, float]:
    """The 95 % confidence interval of a mean or median over seeds.

    Of the mean it is Student's t interval, mean ± t(0.975, n - 1) s / sqrt(n), which keeps its 95 % for few seeds as well. Of
    the median it is the percentile bootstrap interval of 1000 draws.

    Args:
        values: one for each seed.
        statistic: what the interval is of.

    Returns:
        Its two ends; NaN where there are too few values: a mean needs two of them, a median one.
    """
    count = len(values)
    if count < (2 if statistic == "mean" else 1):
        return float("nan"), float("nan")
    if statistic == "mean":
        mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(count)
        reach = stats.t.ppf(0.975, count - 1) * error
        return float(mean - reach), float(mean + reach)
    draws = np.random.default_rng(0).choice(values, (1000, count))
    return tuple(np.percentile(np.median(draws, axis=1), (2.5, 97.5)))


def rate_interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson of the mean of values that are 0 or 100.

    Three successes of three do not prove a rate of 100 %: 29 to 100.
    """
    share = stats.binomtest(int((values > 0).sum()), len(values)).proportion_ci(0.95)
    return 100 * share.low, 100 * share.high
