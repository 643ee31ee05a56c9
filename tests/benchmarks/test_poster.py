"""The 18 numbers on song2021's poster, which conf/suite/gradients.yaml holds."""

import pandas as pd
import pytest

from spectral_repro.benchmarks.poster import approximation_errors, largest_factors


@pytest.fixture(scope="module")
def errors(suite) -> pd.DataFrame:
    frame = approximation_errors(**suite("gradients").published["approximation_error"])
    return frame.set_index(["method", "ratio"])


def test_the_recipe_gives_the_published_taylor_errors(errors: pd.DataFrame):
    rows = errors.loc["taylor"]
    assert len(rows) == 7 and rows["recipe"].tolist() == pytest.approx(rows["published"].tolist(), rel=0.25)


def test_the_recipe_gives_the_published_pade_errors(errors: pd.DataFrame):
    """To the one digit given, except for two ratios at which the errors are rounding errors alone."""
    rows = errors.loc["pade"]
    assert len(rows) == 7
    clear = rows.drop([0.5, 0.7])
    assert clear["recipe"].tolist() == pytest.approx(clear["published"].tolist(), rel=0.25)
    assert rows["recipe"][0.5] < 1e-20 and rows["recipe"][0.7] < 1e-16


def test_errors_of_the_kernels_in_float64(errors: pd.DataFrame):
    for ratio, row in errors.loc["taylor"].iterrows():
        assert row["float64"] == pytest.approx(ratio**101 / (1 - ratio), rel=1e-9, abs=3e-16)
    pade = errors.loc["pade"]
    assert (pade["float64"] * (1 - pade.index) < 1e-11).all()


def test_the_upper_bounds(suite):
    frame = largest_factors(suite("gradients").published["largest_factor"])
    assert frame["method"].tolist() == ["pade", "taylor", "truncated", "topn"]
    assert frame["own"].tolist() == pytest.approx(frame["published"].tolist(), rel=0.005)
