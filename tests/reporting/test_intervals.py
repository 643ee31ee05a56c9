"""Intervals have their coverage, also for few seeds, and tests agree with intervals."""

import numpy as np
import pytest
from scipy import stats

from spectral_repro.reporting.intervals import holm, interval, p_value, rate_interval, rate_p_value, seeds_needed

DRAWS = 20_000


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_95_of_100_intervals_hold_the_mean_and_the_paired_difference(seeds):
    generator = np.random.default_rng(0)
    first, second, common = generator.normal(size=(3, DRAWS, seeds))
    for values, mean in ((70 + 3 * first, 70), ((0.5 * first + common) - (2 * second + common + 1), -1)):
        low, high = interval(values)
        assert np.mean((low <= mean) & (mean <= high)) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_at_least_95_of_100_intervals_hold_the_rate(seeds):
    bounds = np.array([rate_interval(100.0 * (np.arange(seeds) < successes)) for successes in range(seeds + 1)])
    rates = np.linspace(0, 100, 201)
    held = (bounds[:, :1] <= rates) & (rates <= bounds[:, 1:])
    coverage = (stats.binom.pmf(np.arange(seeds + 1)[:, None], seeds, rates / 100) * held).sum(0)
    assert coverage.min() >= 0.95


@pytest.mark.parametrize("seeds", [6, 10, 25])
def test_at_least_95_of_100_intervals_hold_the_median_of_any_distribution(seeds):
    low, high = map(int, interval(np.arange(seeds), "median"))  # which of the sorted values they are
    values = np.sort(np.random.default_rng(0).exponential(size=(DRAWS, seeds)))
    assert np.mean((values[:, low] <= np.log(2)) & (np.log(2) <= values[:, high])) > 0.95 - 0.005


def test_the_interval_of_the_mean_is_students():
    values = np.array([1.0, 2.0, 4.0])
    assert interval(values) == pytest.approx(stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3)))


def test_too_few_seeds_have_none():
    few = [(np.array([3.0]), "mean"), (np.array([]), "mean"), (np.array([]), "median"), (np.arange(5), "median")]
    assert all(np.isnan(interval(values, statistic)).all() for values, statistic in few)
    assert p_value(np.array([3.0]), 0, 1) == 1


@pytest.mark.parametrize("bounds", [(0.5, np.inf), (-np.inf, 0.5), (-1.0, 1.0)])
def test_a_test_decides_where_the_interval_does(bounds):
    least, most = bounds
    for values in np.random.default_rng(1).normal(size=(200, 4)):
        low, high = interval(values)
        decided = high < least or low > most or (least <= low and high <= most)
        assert (p_value(values, least, most) < 0.05) == decided


@pytest.mark.parametrize("bounds", [(20.0, np.inf), (-np.inf, 80.0), (30.0, 90.0)])
def test_a_test_of_a_rate_decides_where_its_interval_does(bounds):
    least, most = bounds
    for seeds in (3, 20):
        for successes in range(seeds + 1):
            values = 100.0 * (np.arange(seeds) < successes)
            low, high = rate_interval(values)
            decided = high < least or low > most or (least <= low and high <= most)
            assert (rate_p_value(values, least, most) < 0.05) == decided, (seeds, successes)


def test_equal_values_have_no_interval():
    for same in (np.full(3, 2.0), np.array([93.21, 92.21, 91.21]) - np.array([90.11, 89.11, 88.11])):
        assert np.isnan(interval(same)).all() and p_value(same, 10, 30) == 1


def test_holm():
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0]) and holm([0.02]) == pytest.approx([0.02]) and not len(holm([]))


def test_holm_bounds_wrong_decisions_for_five_numbers():
    values = np.random.default_rng(2).normal(size=(2000, 5, 4))  # all means lie on their bound
    error = values.std(-1, ddof=1) / 2
    p = 2 * stats.t.sf(abs(values.mean(-1)) / error, 3)
    assert np.mean([holm(each).min() <= 0.05 for each in p]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    ("test", "values", "bounds"),
    [(p_value, np.array([1.0, 2.0, 4.0]), (0.0, np.inf)), (rate_p_value, np.full(3, 100.0), (95.0, np.inf))],
)
def test_seeds_that_would_decide(test, values, bounds):
    needed = seeds_needed(test, values, *bounds, level=0.01)
    assert test(values, *bounds, needed) <= 0.01 < test(values, *bounds, needed - 1)


def test_a_mean_at_its_bound_is_never_decided():
    assert seeds_needed(p_value, np.array([0.0, 1.0, 2.0]), 1.0, np.inf, 0.05) == float("inf")
