"""Which eigenvalues are kept, against plain loops."""

import numpy as np
import pytest
import torch

from spectral_repro.linalg.selection import Both, Information, Leading, PublishedCut, PublishedSVDCut


def spectra():
    """(3, 40, 6) positive eigenvalues in descending order: flat, spread and steep."""
    generator = torch.Generator().manual_seed(0)
    powers = torch.tensor([0.1, 2.0, 12.0]).view(3, 1, 1)
    return torch.rand(3, 40, 6, dtype=torch.float64, generator=generator).pow(powers).sort(descending=True).values


def fewest_reaching(share, values):
    for count in range(1, len(values) + 1):
        if values[:count].sum() >= share * values.sum():
            return count
    return len(values)


def published_cut(eps, values):
    count, energy = 0, 0.0
    for value in values:
        energy += value
        if energy / values.sum() >= 1 - eps or value <= eps:
            break
        count += 1
    return count


def assert_keeps(selection, counts_of):
    eigenvalues = spectra()
    mask = selection(eigenvalues)
    assert mask.dtype == torch.bool
    counts = np.apply_along_axis(counts_of, -1, eigenvalues.numpy())
    np.testing.assert_array_equal(mask.numpy(), np.arange(6) < counts[..., None])
    return counts


@pytest.mark.parametrize("count", [1, 3, 6])
def test_leading_keeps_the_largest(count):
    assert_keeps(Leading(count), lambda _: count)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.95, 0.999])
def test_information_keeps_the_fewest_that_reach_the_share(share):
    assert_keeps(Information(share), lambda values: fewest_reaching(share, values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("share", "count"), [(0.25, 1), (0.5, 1), (0.5625, 2), (0.75, 2), (0.875, 3), (0.9375, 4), (1, 4)])
def test_information_stops_where_the_share_is_met_exactly(share, count, dtype):
    mask = Information(share)(torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=dtype))
    assert mask.tolist() == [index < count for index in range(4)]


def test_all_information_keeps_every_eigenvalue():
    assert Information(1.0)(torch.tensor([1.0, 1e-9, 1e-20, 0.0])).all()


@pytest.mark.parametrize("eps", [1e-4, 0.01, 0.08, 0.3])
def test_published_cut_is_the_published_loop(eps):
    assert_keeps(PublishedCut(eps), lambda values: published_cut(eps, values))


@pytest.mark.parametrize("d", [1, 2, 4, 16])
def test_published_cut_always_drops_the_smallest(d):
    eigenvalues = torch.ones(d, dtype=torch.float64)
    assert PublishedCut(1e-12)(eigenvalues).tolist() == [True] * (d - 1) + [False]


def test_published_cut_drops_the_eigenvalue_that_meets_the_share():
    assert PublishedCut(0.25)(torch.tensor([4.0, 2.0, 1.0, 1.0])).tolist() == [True, False, False, False]


def test_published_cut_drops_what_does_not_exceed_eps():
    eigenvalues = torch.tensor([2e-4, 1.5e-4, 1e-4, 1e-4, 1e-4], dtype=torch.float64)
    assert PublishedCut(1e-4)(eigenvalues).tolist() == [True, True, False, False, False]


def published_svd_cut(eps, values):
    count = 1
    for index, value in enumerate(values):
        if value <= eps:
            count = index + 1
            break
    return count


@pytest.mark.parametrize("eps", [1e-9, 1e-4, 0.08, 0.5, 2.0])
def test_published_svd_cut_is_the_published_loop(eps):
    counts = assert_keeps(PublishedSVDCut(eps), lambda values: published_svd_cut(eps, values))
    assert eps < 2 or (counts == 1).all()


def test_published_svd_cut_leaves_one_direction_of_full_rank_and_most_of_a_deficient_one():
    mask = PublishedSVDCut(1e-4)(torch.tensor([[3.0, 2.0, 1.0, 0.5], [3.0, 2.0, 1e-4, 1e-4]]))
    assert mask.tolist() == [[True, False, False, False], [True, True, True, False]]


@pytest.mark.parametrize("first", [Leading(2), Leading(6), Information(0.8)])
def test_both_keeps_the_fewer(first):
    eigenvalues, second = spectra(), PublishedCut(0.08)
    counts = torch.minimum(first(eigenvalues).sum(-1), second(eigenvalues).sum(-1))
    assert torch.equal(Both(first, second)(eigenvalues).sum(-1), counts)
