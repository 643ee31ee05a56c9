"""Rows of a study against NumPy."""

import math

import numpy as np
import pytest
import torch

from spectral_repro.studies.summary import rows, with_log


def test_mean_and_deviation_of_each_row():
    values = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table = rows("layer", [1, 2, 7], with_log("gap", values))
    assert [row["layer"] for row in table] == [1, 2, 7]
    for row, each in zip(table, values.numpy(), strict=True):
        expected = [each.mean(), each.std(ddof=1), np.log(each).mean(), np.log(each).std(ddof=1)]
        assert [row[key] for key in ("gap", "gap_std", "log_gap", "log_gap_std")] == pytest.approx(expected, rel=1e-12)


def test_one_network_has_no_deviation():
    (row,) = rows("width", [8], {"slope": torch.tensor([[0.5]])})
    assert row["slope"] == 0.5 and math.isnan(row["slope_std"])
