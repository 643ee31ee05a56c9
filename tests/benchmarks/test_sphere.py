from pathlib import Path

import pandas as pd

from spectral_repro.benchmarks.write import write


def test_rows_stay_on_the_sphere(suite, tmp_path: Path):
    printed = write(suite("sphere").measure(), "Measured here.", tmp_path)
    numbers = pd.read_csv(tmp_path / "sphere.csv")
    assert not numbers.duplicated(["optimizer", "dtype", "steps"]).any() and len(numbers) == 2 * 2 * 2
    limits = numbers["dtype"].map({"float64": 1e-15, "float32": 5e-7})
    assert (numbers["deviation"] < limits).all() and (numbers["rows"] == 4).all()
    assert "after 10 steps" in printed[0] and "| adamg " in printed[0] and "| sgdg " in printed[0]
    assert {path.name for path in tmp_path.iterdir()} == {"sphere.csv", "sphere.md", "index.html"}
