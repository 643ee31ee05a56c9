"""The gap of untrained MLPs against networks of each depth, and by how they start."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from spectral_repro.models.init import xavier
from spectral_repro.models.svd_init import svd
from spectral_repro.studies.initial import InitialGap


def images() -> Tensor:
    """Three batches of twenty images with much in common."""
    return torch.rand(3, 20, 3, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.3


def study(**options) -> InitialGap:
    return InitialGap(**{"width": 16, "depth": 30, "batches": 3, "init": xavier} | options)


def gap_of(outputs: Tensor) -> Tensor:
    """Of the published code: singular values against equal ones."""
    values = torch.linalg.svdvals(outputs.double())
    return (values / values.norm() - torch.full((10,), 1 / math.sqrt(10), dtype=torch.float64)).norm()


def test_every_depth_is_a_network_of_its_own():
    """Its weights are handed over by the init, the same ones to the study and to networks built here."""
    generator = torch.Generator().manual_seed(2)
    first, square, last = (torch.randn(shape, generator=generator) for shape in ((16, 48), (3, 16, 16), (10, 16)))

    def init(network: nn.Module, first_images: object) -> None:
        linear = [layer for layer in network.features if isinstance(layer, nn.Linear)]
        for layer, weight in zip([*linear, network.classifier], [first, *square, last], strict=True):
            layer.weight.copy_(weight)

    table = study(depth=5, init=init)(torch.Generator(), images())
    assert [row["depth"] for row in table] == [2, 3, 4, 5]
    for row in table:
        hidden = [images().flatten(2)]
        for weight in [first, *square][: row["depth"] - 1]:
            hidden.append((hidden[-1] @ weight.T).relu())
        gaps = torch.stack([gap_of(batch) for batch in hidden[-1] @ last.T])
        assert row["initial_output_gap"] == pytest.approx(gaps.mean().item(), rel=1e-5)
        assert row["initial_output_gap_std"] == pytest.approx(gaps.std().item(), rel=1e-3)


def test_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (study(depth=3)(torch.Generator().manual_seed(seed), images()) for seed in (3, 3, 4))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_depth_opens_the_gap_from_xavier_and_the_svd_keeps_it_closed(capsys):
    start = partial(svd, images=48, layers="linear")
    by_xavier, by_svd = (study(init=init)(torch.Generator().manual_seed(0), images()) for init in (xavier, start))
    most = math.sqrt(2 - 2 / math.sqrt(10))
    assert 0.9 < by_xavier[-1]["initial_output_gap"] < most
    assert by_svd[-1]["initial_output_gap"] < by_xavier[-1]["initial_output_gap"] - 0.3
    assert "28 layers from the SVD of their inputs on 48 images" in capsys.readouterr().out
