"""suite=clipping at its smallest scale, and its reference computations."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from spectral_repro.benchmarks.clipping import NAIVE, gram_clip, naive_clip, naive_norm, summed
from spectral_repro.benchmarks.write import write
from spectral_repro.linalg import clip_conv, conv_norm


@pytest.mark.parametrize(("outputs", "inputs", "size", "stride"), [(4, 3, 8, 1), (4, 3, 8, 2), (3, 9, 6, 3), (5, 2, 4, 1)])
def test_references_agree_with_clip_conv(outputs, inputs, size, stride):
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = clip_conv(weight, size, 1.0, stride)
    for way in (naive_clip, gram_clip):
        torch.testing.assert_close(way(weight, size, stride, 1.0), expected)
    torch.testing.assert_close(naive_norm(weight, size, stride), conv_norm(weight, size, stride))


def test_totals_weight_layers_by_their_count():
    common = {"network": "net", "operation": "clip", "difference": 0.5}
    rows = [(NAIVE, 1, 100.0), (NAIVE, 3, 200.0), ("other", 1, 50.0), ("other", 3, 100.0)]
    totals = summed(pd.DataFrame([common | {"way": way, "count": count, "ms": ms} for way, count, ms in rows]))
    assert totals["way"].tolist() == [NAIVE, "other"]
    assert totals["seconds"].tolist() == pytest.approx([0.7, 0.35])
    assert totals["speedup"].tolist() == pytest.approx([1, 2])


def test_files_and_printed_tables(suite, tmp_path: Path):
    printed = write(suite("clipping").measure(), "Measured here.", tmp_path)
    layers, totals = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("layers", "clipping"))
    assert (layers["ms"] > 0).all() and (layers["difference"] < 1e-6).all()
    assert set(layers["layer"]) == {"8 × 3 × 3 × 8 × 1", "6 × 8 × 3 × 8 × 2"}
    assert (totals.loc[totals["way"] == NAIVE, "speedup"] == 1).all()
    assert (tmp_path / "clipping.png").read_bytes().startswith(b"\x89PNG")
    assert all(f"{row.operation}: {row.way} " in printed[0] for row in totals.itertuples())
