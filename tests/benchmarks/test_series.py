from pathlib import Path

import pandas as pd
import pytest

from spectral_repro.benchmarks.write import write


def test_factors_and_their_errors(suite, tmp_path: Path):
    write(suite("series").measure(), "Measured here.", tmp_path)
    numbers = pd.read_csv(tmp_path / "series.csv").set_index(["method", "ratio"])
    assert numbers.loc[("pi", 0.5), "factor"] == pytest.approx(sum(0.5**k for k in range(19)), rel=1e-3)
    assert numbers.loc[("taylor", 0.9), "error"] == pytest.approx(0.9**101 / 0.1, rel=1e-3)
    assert numbers.loc["pi", "factor"].max() <= 20 and numbers.loc["taylor", "factor"].max() <= 101
    assert (numbers.loc["pade", "relative_error"] < 1e-11).all()
    largest = pd.read_csv(tmp_path / "largest.csv")
    assert largest["own"].to_numpy() == pytest.approx(largest["published"].to_numpy(), rel=2e-3)
