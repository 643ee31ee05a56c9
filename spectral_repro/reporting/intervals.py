"""Confidence intervals and tests of a few values, one for each seed."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

Statistic = Literal["mean", "median"]
Values: TypeAlias = "pd.Series | np.ndarray"
LEVEL = 0.05
FEWEST = 3  # seeds that decide anything
MOST = 1000  # seeds that are worth naming


def interval(values: Values, statistic: Statistic = "mean") -> tuple[float, float]:
    """The 95 % confidence interval of a mean or median over seeds.

    Of the mean it is Student's t interval, mean ± t(0.975, n - 1) s / sqrt(n), which keeps its 95 % for few seeds as well. Of
    the median it is the interval between two of the values that needs no assumption about their distribution; it exists for
    six values and more, as even the smallest and the largest of five hold the median in 94 % of cases alone.

    Args:
        values: one for each seed; for a mean of any shape, the seeds in the last dimension.
        statistic: what the interval is of.

    Returns:
        Its two ends; NaN where there are too few values, one of them is infinite, or a mean has no spread to judge by.
    """
    values = np.asarray(values, dtype=float)
    seeds = values.shape[-1]
    if seeds < (2 if statistic == "mean" else 1):
        return float("nan"), float("nan")
    if statistic == "median":
        below = np.arange(seeds // 2)
        left_out = int((2 * special.bdtr(below, seeds, 0.5) <= LEVEL).sum())  # of the sorted values, at either end
        ordered = np.sort(values)
        return (ordered[left_out - 1], ordered[-left_out]) if left_out else (float("nan"), float("nan"))
    mean, reach = values.mean(-1), special.stdtrit(seeds - 1, 1 - LEVEL / 2) * _spread(values) / np.sqrt(seeds)
    return mean - reach, mean + reach


def _spread(values: np.ndarray) -> np.ndarray:
    """The sample standard deviation; NaN where all values are the same but for rounding, or one of them is infinite."""
    with np.errstate(invalid="ignore"):
        std = values.std(-1, ddof=1)
    return np.where(std > 1e-9 * abs(values).max(-1), std, np.nan)[()]


def rate_interval(values: Values) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson of the mean of values that are 0 or 100.

    Three successes of three do not prove a rate of 100 %: 29 to 100.
    """
    seeds, successes = len(values), int((values > 0).sum())
    low = special.betaincinv(successes, seeds - successes + 1, LEVEL / 2) if successes else 0.0
    high = special.betaincinv(successes + 1, seeds - successes, 1 - LEVEL / 2) if successes < seeds else 1.0
    return 100 * float(low), 100 * float(high)


def p_value(values: Values, least: float, most: float, seeds: int | np.ndarray | None = None) -> np.ndarray:
    """The two-sided p value of Student's t test against the bound that is nearest to the mean.

    It is below 0.05 exactly where the 95 % t interval lies within the bounds, or wholly outside of them.

    Args:
        values: one for each seed.
        least, most: the bounds, which may be infinite.
        seeds: numbers of seeds to assume in the place of those there are, with the same mean and standard deviation.

    Returns:
        One for each number of seeds; 1 where there is no interval.
    """
    values = np.asarray(values, dtype=float)
    seeds = np.asarray(len(values) if seeds is None else seeds)
    if len(values) < 2 or np.isnan(spread := _spread(values)):
        return np.ones(seeds.shape)
    distance = min(abs(values.mean() - least), abs(values.mean() - most))
    return 2 * special.stdtr(seeds - 1, -distance * np.sqrt(seeds) / spread)


def rate_p_value(values: Values, least: float, most: float, seeds: int | np.ndarray | None = None) -> np.ndarray:
    """The same of a rate of success, by the binomial test that Clopper and Pearson's interval belongs to.

    Args:
        values: 0 or 100, one for each seed.
        least, most: the bounds in percent.
        seeds: numbers of seeds to assume in the place of those there are, with the same rate.
    """
    seeds = np.asarray(len(values) if seeds is None else seeds).astype(int)
    rate = np.mean(values > 0)
    successes = np.rint(rate * seeds)
    p = np.zeros(seeds.shape)
    for bound in (least / 100, most / 100):
        if np.isfinite(bound):
            above = rate > bound
            at_least = np.where(successes > 0, special.bdtrc(successes - 1, seeds, bound), 1.0)
            tail = at_least if above else special.bdtr(successes, seeds, bound)
            p = np.maximum(p, tail)
    return np.minimum(2 * p, 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """The p values of several tests, corrected after Holm: the probability of any wrong decision stays at the level.

    The k-th smallest of m is multiplied by m - k + 1, and is never below the ones before it.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(corrected, 1)


def seeds_needed(test: Callable[..., np.ndarray], values: Values, least: float, most: float, level: float) -> float:
    """How many seeds, those there are among them, would decide at this level if mean and spread stay as they are.

    It is the fewest for which the p value is small enough, infinite beyond `MOST`.

    Args:
        test: `p_value` or `rate_p_value`.
        values, least, most: as for the test.
        level: which p value decides.
    """
    seeds = np.arange(max(FEWEST, len(values) + 1), MOST + 1)
    enough = test(values, least, most, seeds) <= level
    return float(seeds[enough.argmax()]) if enough.any() else float("inf")
