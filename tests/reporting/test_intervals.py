"""The interval of a mean keeps its level for few seeds, and says nothing of one seed."""

import numpy as np
import pytest
from scipy.stats import t

from spectral_repro.reporting.intervals import interval


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_95_of_100_intervals_hold_the_mean(seeds):
    values = np.random.default_rng(0).normal(size=(2000, seeds))
    held = [low <= 0 <= high for low, high in map(interval, values)]
    assert np.mean(held) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / len(values)))


def test_it_is_students():
    values = np.array([1.0, 2.0, 4.0])
    assert interval(values) == pytest.approx(t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3)))


def test_one_seed_has_none():
    assert all(map(np.isnan, (*interval(np.array([3.0])), *interval(np.array([])))))
