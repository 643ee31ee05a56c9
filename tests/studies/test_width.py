"""Width in random networks: slopes, and what the distance is measured from."""

import math

import numpy as np
import pytest
import torch

from spectral_repro.studies.width import Width, running_slope


def study(activation: str = "identity", start: tuple[float, float] | None = None, **options) -> list[dict[str, float]]:
    usual = {"widths": [16, 64], "layers": 200, "repeats": 5, "reference_layers": None}
    width = Width(samples=4, batch_norm=True, activation=activation, start=start, **usual | options)
    return width(torch.Generator().manual_seed(0))


def test_slope_of_every_row_is_that_of_the_line_so_far():
    x = torch.tensor([2.0, 3.0, 5.0, 11.0], dtype=torch.float64).log()
    y = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    found = running_slope(x, y)
    assert found[0].isnan().all()
    for count in (2, 3, 4):
        expected = [np.polyfit(x[:count], column[:count], 1)[0] for column in y.T.numpy()]
        np.testing.assert_allclose(found[count - 1], expected, rtol=1e-9)


def test_the_gap_falls_like_the_root_of_the_width():
    """At the published numbers of layers and networks; -0.46 over 16 to 512 is published."""
    table = study(start=(0.0, 1e-6), widths=[16, 64, 256], layers=500, repeats=20)
    assert [row["width"] for row in table] == [16, 64, 256] and math.isnan(table[0]["slope"])
    assert table[-1]["slope"] == pytest.approx(-0.48, abs=0.03)
    steps = np.diff([row["log_gram_distance"] for row in table]) / math.log(4)
    assert table[-1]["slope"] == pytest.approx(steps.mean(), rel=1e-6)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_activations_move_the_mean_gram_matrix_away_from_the_identity(activation: str):
    to_identity = study(activation)[-1]["gram_distance"]
    to_the_mean = study(activation, reference_layers=500)[-1]["gram_distance"]
    assert to_the_mean < 0.8 * to_identity


def test_without_activation_the_identity_is_the_mean():
    to_identity, to_the_mean = study(), study(reference_layers=1000)
    for one, other in zip(to_identity, to_the_mean, strict=True):
        assert one["gram_distance"] == pytest.approx(other["gram_distance"], rel=0.05)
