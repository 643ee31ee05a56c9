"""Gap and cosine against their definitions, column by column, and at their ends."""

import math

import numpy as np
import pytest
import torch

from spectral_repro.linalg.orthogonality import abs_cosine_similarity, normalised_gram, orthogonality_gap, singular_value_gap
from tests.tolerance import tolerance


@pytest.fixture
def columns() -> torch.Tensor:
    """Six times five columns in nine dimensions."""
    return torch.randn(2, 3, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_gap_is_the_definition(columns):
    flat = columns.flatten(0, 1).numpy()
    expected = [np.linalg.norm(h.T @ h / np.linalg.norm(h) ** 2 - np.eye(5) / 5) for h in flat]
    np.testing.assert_allclose(orthogonality_gap(columns).flatten(), expected, rtol=tolerance(torch.float64, 9 * 25))


def test_cosine_is_the_mean_over_pairs(columns):
    flat = columns.flatten(0, 1).numpy()
    pairs = [(i, j) for i in range(5) for j in range(i)]
    lengths = np.linalg.norm(flat, axis=1)
    expected = [
        np.mean([abs(h[:, i] @ h[:, j]) / (length[i] * length[j]) for i, j in pairs])
        for h, length in zip(flat, lengths, strict=True)
    ]
    np.testing.assert_allclose(abs_cosine_similarity(columns).flatten(), expected, rtol=tolerance(torch.float64, 9 * 25))


def test_ends_of_the_scale(columns):
    orthogonal = torch.linalg.qr(columns).Q
    aligned = columns[..., :1] * torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0], dtype=torch.float64)
    rounding = tolerance(torch.float64, terms=9)
    assert orthogonality_gap(orthogonal).max() < rounding and abs_cosine_similarity(orthogonal).max() < rounding
    assert (orthogonality_gap(aligned) - math.sqrt(1 - 1 / 5)).abs().max() < rounding
    assert (abs_cosine_similarity(aligned) - 1).abs().max() < rounding


def test_columns_of_unequal_length_are_no_frame():
    """Orthogonal, yet one column has all of the length: the gap of a matrix of rank 1."""
    lengths = torch.tensor([1.0, 1e-6, 1e-6, 1e-6], dtype=torch.float64)
    assert orthogonality_gap(torch.eye(7, 4, dtype=torch.float64) * lengths).item() == pytest.approx(math.sqrt(3 / 4))


@pytest.mark.parametrize("measure", [orthogonality_gap, abs_cosine_similarity, normalised_gram])
def test_neither_scale_nor_rotation_of_the_space_counts(columns, measure):
    rotation = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    torch.testing.assert_close(measure(1e3 * rotation @ columns), measure(columns))


def test_singular_value_gap_is_that_of_the_singular_values(columns):
    values = np.linalg.svd(columns.flatten(0, 1).numpy(), compute_uv=False)
    expected = np.linalg.norm(values / np.linalg.norm(values, axis=1, keepdims=True) - 1 / math.sqrt(5), axis=1)
    np.testing.assert_allclose(singular_value_gap(columns.mT @ columns).flatten(), expected, rtol=1e-12)


def test_singular_value_gap_at_its_ends():
    """Orthonormal columns, columns on one line, no columns to speak of, and columns that are not finite."""
    line = torch.ones(4, 4, dtype=torch.float64)
    gaps = singular_value_gap(
        torch.stack([torch.eye(4, dtype=torch.float64), line, 0 * line, torch.inf * line, torch.nan * line])
    )
    assert gaps[:2].tolist() == pytest.approx([0, 1], abs=1e-7)
    assert gaps[2:].isnan().all()
