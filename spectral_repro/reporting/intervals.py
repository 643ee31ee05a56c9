"""Confidence intervals and tests for a few values, one per seed."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

Statistic = Literal["mean", "median"]
Values: TypeAlias = "pd.Series | np.ndarray"
LEVEL = 0.05
FEWEST = 3  # seeds for a decision
MOST = 1000  # larger numbers of seeds are not computed


def interval(values: Values, statistic: Statistic = "mean") -> tuple[float, float]:
    """The 95 % confidence interval of a mean or median over seeds.

    For the mean it is Student's t interval, mean ± t(0.975, n - 1) s / sqrt(n), which also holds for few seeds. For the median
    it lies between two of the sorted values and assumes nothing about their distribution. It needs at least six values, because
    the smallest and the largest of five contain the median with a probability of only 94 %.

    Args:
        values: one per seed; for a mean of any shape, with the seeds in the last dimension.
        statistic: "mean" or "median".

    Returns:
        The two ends; NaN if there are too few values, one of them is infinite, or the values of a mean are all the same.
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
    """The sample standard deviation; NaN if all values are the same up to rounding, or one of them is infinite."""
    with np.errstate(invalid="ignore"):
        std = values.std(-1, ddof=1)
    return np.where(std > 1e-9 * abs(values).max(-1), std, np.nan)[()]


def rate_interval(values: Values) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson for the mean of values that are 0 or 100.

    For three successes in three runs it is 29 to 100.
    """
    seeds, successes = len(values), int((values > 0).sum())
    low = special.betaincinv(successes, seeds - successes + 1, LEVEL / 2) if successes else 0.0
    high = special.betaincinv(successes + 1, seeds - successes, 1 - LEVEL / 2) if successes < seeds else 1.0
    return 100 * float(low), 100 * float(high)


def p_value(values: Values, least: float, most: float, seeds: int | np.ndarray | None = None) -> np.ndarray:
    """The two-sided p value of Student's t test against the bound nearest to the mean.

    It is below 0.05 if and only if the 95 % t interval lies entirely within the bounds, or entirely outside.

    Args:
        values: one per seed.
        least, most: the bounds, which may be infinite.
        seeds: numbers of seeds to assume instead of the actual one, with the same mean and standard deviation.

    Returns:
        A p value for each number of seeds; 1 if there is no interval.
    """
    values = np.asarray(values, dtype=float)
    seeds = np.asarray(len(values) if seeds is None else seeds)
    if len(values) < 2 or np.isnan(spread := _spread(values)):
        return np.ones(seeds.shape)
    distance = min(abs(values.mean() - least), abs(values.mean() - most))
    return 2 * special.stdtr(seeds - 1, -distance * np.sqrt(seeds) / spread)


def rate_p_value(values: Values, least: float, most: float, seeds: int | np.ndarray | None = None) -> np.ndarray:
    """The p value for a rate of success, by the binomial test that corresponds to the interval of Clopper and Pearson.

    Args:
        values: 0 or 100, one per seed.
        least, most: the bounds in percent.
        seeds: numbers of seeds to assume instead of the actual one, with the same rate.
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
    """The p values of several tests with Holm's correction, which bounds the probability of any wrong decision.

    The k-th smallest of m values is multiplied by m - k + 1, and is at least as large as the ones before it.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(corrected, 1)


def seeds_needed(test: Callable[..., np.ndarray], values: Values, least: float, most: float, level: float) -> float:
    """The smallest total number of seeds for a decision, if mean and spread stay the same; infinite above `MOST`.

    Args:
        test: `p_value` or `rate_p_value`.
        values, least, most: as for the test.
        level: the largest p value that decides.
    """
    seeds = np.arange(max(FEWEST, len(values) + 1), MOST + 1)
    enough = test(values, least, most, seeds) <= level
    return float(seeds[enough.argmax()]) if enough.any() else float("inf")
