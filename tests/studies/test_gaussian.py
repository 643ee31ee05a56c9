"""Random networks against full weight matrices, in distribution, and against their definition, number by number."""

from itertools import islice

import numpy as np
import pytest
import torch

from spectral_repro.linalg.orthogonality import orthogonality_gap
from spectral_repro.studies.gaussian import GaussianNetwork

NETWORKS = 2000


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gaps_with_full_weights(network: GaussianNetwork, start: np.ndarray, layers: int) -> np.ndarray:
    """(layers, NETWORKS) gaps of the same recursion, its weights drawn."""
    activation = {"identity": lambda x: x, "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 2 / (1 + np.exp(-2 * x))}
    random, columns, found = np.random.default_rng(0), np.broadcast_to(start, (NETWORKS, *start.shape)), []
    for _ in range(layers):
        weights = random.standard_normal((NETWORKS, network.width, network.width))
        columns = weights @ activation[network.activation](columns)
        if network.batch_norm:
            columns = columns / np.linalg.norm(columns, axis=2, keepdims=True)
        else:
            columns = columns / np.sqrt(network.width)
        gram = columns.transpose(0, 2, 1) @ columns / np.linalg.norm(columns, axis=(1, 2))[:, None, None] ** 2
        found.append(np.linalg.norm(gram - np.eye(network.samples) / network.samples, axis=(1, 2)))
    return np.array(found)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid"])
def test_weights_that_are_not_drawn_make_the_same_distribution(activation: str, batch_norm: bool):
    network = GaussianNetwork(24, 3, batch_norm, activation, start=(0.9, 0.2))
    start = np.array([[1, 0.9, 0.9], [0, 0.2, 0], [0, 0, 0.2], *[[0, 0, 0]] * 21])
    expected = gaps_with_full_weights(network, start, 4)
    found = torch.stack([orthogonality_gap(h) for h in islice(network.representations(NETWORKS, generator()), 1, 5)]).numpy()
    for statistic in (lambda gaps: gaps, np.square):
        ours, theirs = statistic(found), statistic(expected)
        error = np.sqrt((ours.var(1) + theirs.var(1)) / NETWORKS)
        assert (np.abs(ours.mean(1) - theirs.mean(1)) < 4 * error).all()
        assert (error < 0.02 * theirs.mean(1)).all()


def test_more_samples_than_width():
    network = GaussianNetwork(3, 7)
    start, second = islice(network.representations(5, generator()), 2)
    assert start.shape == second.shape == (5, 3, 7)
    torch.testing.assert_close(second.square().sum(-1), torch.ones(5, 3, dtype=torch.float64))


def test_start_gives_each_sample_an_axis():
    start = next(GaussianNetwork(5, 3, start=(0.9, 0.1)).representations(2, generator()))
    expected = torch.tensor([[1, 0.9, 0.9], [0, 0.1, 0], [0, 0, 0.1], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(start, expected.expand(2, 5, 3), rtol=0, atol=0)


def test_depth_neither_overflows_nor_vanishes_without_batch_norm():
    deep = next(islice(GaussianNetwork(64, 2, False, start=(0.0, 1.0)).representations(3, generator()), 2000, None))
    assert deep.isfinite().all() and (torch.linalg.matrix_norm(deep) > 1e-100).all()


def test_every_seed_has_its_networks():
    def third(seed: int) -> torch.Tensor:
        return next(islice(GaussianNetwork(5, 2).representations(2, torch.Generator().manual_seed(seed)), 2, None))

    assert torch.equal(third(0), third(0)) and not torch.isclose(third(0), third(1)).any()
    assert not torch.isclose(*third(0)).any()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"activation": "cos"}, "activation=cos"), ({"samples": 9, "start": (0.0, 1.0)}, "samples=9: must be at most width=8")],
)
def test_bad_values_are_named(options, named: str):
    with pytest.raises(ValueError, match=named):
        GaussianNetwork(**{"width": 8, "samples": 2} | options)
