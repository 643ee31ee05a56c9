from pathlib import Path

import pandas as pd
import pytest

from spectral_repro.benchmarks.write import write
from spectral_repro.configuration.groups import options


def test_every_layer_is_compared_with_the_plain_one(suite, tmp_path: Path):
    layers = suite("layers")
    assert set(options("pooling")) <= set(layers.families["pooling"])
    printed = write(layers.measure(), "Measured here.", tmp_path)
    numbers = pd.read_csv(tmp_path / "layers.csv")
    for family, frame in numbers.groupby("family"):
        assert frame["layer"].tolist() == list(layers.families[family])
        plain = frame.iloc[0]
        assert plain["layer"] == {"norm": "batch", "pooling": "average"}[family]
        assert (frame["total_ms"] / plain["total_ms"]).tolist() == pytest.approx(frame["relative_time"].tolist(), rel=2e-3)
        assert (frame["peak_mib"] >= plain["peak_mib"]).all()
    assert (numbers[["forward_ms", "backward_ms", "peak_mib"]] > 0).all(axis=None)
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".md", ".png", ".pdf", ".html"}
    for name in numbers["layer"]:
        assert any(f"| {name} " in text for text in printed)
