"""Depth in random networks: what daneshmand2021 says of it, at the published size."""

import math
from statistics import mean

import pytest
import torch

from spectral_repro.studies.depth import Depth


def study(width: int, samples: int, start: tuple[float, float], batch_norm: bool = True) -> list[dict[str, float]]:
    depth = Depth(
        width=width, samples=samples, start=start, batch_norm=batch_norm, activation="identity", layers=50, repeats=20
    )
    return depth(torch.Generator().manual_seed(0))


def over(table: list[dict[str, float]], first: int, column: str) -> float:
    return mean(row[column] for row in table if row["layer"] >= first)


def test_the_first_layer_is_the_input():
    table = study(32, 2, start=(0.6, 0.8))
    assert [row["layer"] for row in table] == list(range(1, 51))
    assert table[0]["abs_cosine_similarity"] == pytest.approx(0.6) and table[0]["abs_cosine_similarity_std"] < 1e-12
    assert table[0]["orthogonality_gap"] == pytest.approx(0.6 / math.sqrt(2))


def test_batch_norm_makes_aligned_inputs_orthogonal():
    table = study(32, 2, start=(0.999, 0.001))
    assert table[0]["abs_cosine_similarity"] > 0.999999
    assert over(table, 10, "abs_cosine_similarity") == pytest.approx(0.12, abs=0.02)


def test_without_it_orthogonal_inputs_become_aligned():
    table = study(32, 2, batch_norm=False, start=(0.0, 1.0))
    assert table[0]["abs_cosine_similarity"] == 0 and over(table, 45, "abs_cosine_similarity") > 0.5


@pytest.mark.parametrize(("width", "published"), [(32, -1.63), (512, -3.03)])
def test_the_gap_falls_to_a_plateau_set_by_the_width(width: int, published: float):
    table = study(width, 4, start=(0.0, 1e-6))
    assert table[0]["orthogonality_gap"] == pytest.approx(math.sqrt(3 / 4))
    assert over(table, 25, "log_orthogonality_gap") == pytest.approx(published, abs=0.08)
