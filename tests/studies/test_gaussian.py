"""Random networks against full weight matrices, in distribution, and against their definition, number by number."""

from itertools import islice

import numpy as np
import pytest
import torch

from spectral_repro.linalg.orthogonality import orthogonality_gap
from spectral_repro.studies.depth import Depth

NETWORKS = 2000


def representations(layers: int, seed: int = 0, **options) -> list[torch.Tensor]:
    """The first ones of five networks of width 8 on two samples, or what the options say."""
    usual = {"width": 8, "samples": 2, "batch_norm": True, "activation": "identity", "start": None, "repeats": 5}
    study = Depth(**usual | options, layers=layers)
    return list(islice(study.representations(study.width, torch.Generator().manual_seed(seed)), layers))


def gaps_with_full_weights(start: np.ndarray, activation: str, batch_norm: bool, layers: int) -> np.ndarray:
    """(layers, NETWORKS) gaps of the same recursion, its weights drawn."""
    functions = {"identity": lambda x: x, "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 2 / (1 + np.exp(-2 * x))}
    width, samples = start.shape
    random, columns, found = np.random.default_rng(0), np.broadcast_to(start, (NETWORKS, width, samples)), []
    for _ in range(layers):
        columns = random.standard_normal((NETWORKS, width, width)) @ functions[activation](columns)
        columns = columns / (np.linalg.norm(columns, axis=2, keepdims=True) if batch_norm else np.sqrt(width))
        gram = columns.transpose(0, 2, 1) @ columns / np.linalg.norm(columns, axis=(1, 2))[:, None, None] ** 2
        found.append(np.linalg.norm(gram - np.eye(samples) / samples, axis=(1, 2)))
    return np.array(found)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid"])
def test_weights_that_are_not_drawn_make_the_same_distribution(activation: str, batch_norm: bool):
    start = np.zeros((24, 3))
    start[:3] = [[1, 0.9, 0.9], [0, 0.2, 0], [0, 0, 0.2]]
    expected = gaps_with_full_weights(start, activation, batch_norm, layers=4)
    network = {"width": 24, "samples": 3, "batch_norm": batch_norm, "activation": activation, "start": (0.9, 0.2)}
    _, *hidden = representations(5, **network, repeats=NETWORKS)
    found = torch.stack([orthogonality_gap(h) for h in hidden]).numpy()
    for statistic in (lambda gaps: gaps, np.square):
        ours, theirs = statistic(found), statistic(expected)
        error = np.sqrt((ours.var(1) + theirs.var(1)) / NETWORKS)
        assert (np.abs(ours.mean(1) - theirs.mean(1)) < 4 * error).all()
        assert (error < 0.02 * theirs.mean(1)).all()


def test_more_samples_than_width():
    start, second = representations(2, width=3, samples=7)
    assert start.shape == second.shape == (5, 3, 7)
    torch.testing.assert_close(second.square().sum(-1), torch.ones(5, 3, dtype=torch.float64))


def test_start_gives_each_sample_an_axis():
    (start,) = representations(1, width=5, samples=3, start=(0.9, 0.1))
    expected = torch.tensor([[1, 0.9, 0.9], [0, 0.1, 0], [0, 0, 0.1], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(start, expected.expand(5, 5, 3), rtol=0, atol=0)


def test_depth_neither_overflows_nor_vanishes_without_batch_norm():
    deep = representations(2000, width=64, batch_norm=False, start=(0.0, 1.0))[-1]
    assert deep.isfinite().all() and (torch.linalg.matrix_norm(deep) > 1e-100).all()


def test_every_seed_and_every_network_has_weights_of_its_own():
    first, again, other = (representations(3, seed)[-1] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.isclose(first, other).any()
    assert not torch.isclose(first[0], first[1]).any()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"activation": "cos"}, "activation='cos': must be identity, sigmoid, relu, tanh or sin"),
        ({"samples": 9, "start": (0.0, 1.0)}, "samples=9: must be at most the width 8"),
    ],
)
def test_bad_values_are_named(options, named: str):
    with pytest.raises(ValueError, match=named):
        representations(1, **options)
