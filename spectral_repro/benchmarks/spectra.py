"""Spectra for the benchmark of gradients: d eigenvalues in descending order, float64, the largest equal to 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """A spectrum for every d, with random eigenvectors if ``rotated``, or else along the coordinate axes."""

    eigenvalues: Callable[[int], Tensor]
    rotated: bool = True


def separated(size: int) -> Tensor:
    """Equal steps from 1 to 1 / d; condition number d."""
    return torch.arange(size, 0, -1, dtype=torch.float64) / size


def clusters(size: int, gap: float) -> Tensor:
    """Clusters of ``leading(d)`` eigenvalues near 1, 1/2, 1/4, ..., with relative gaps of ``gap`` within each."""
    members = leading(size)
    levels = 0.5 ** torch.arange(size // members, dtype=torch.float64)
    return (levels.unsqueeze(-1) * (1 - gap * torch.arange(members, dtype=torch.float64))).flatten()


def deficient(size: int) -> Tensor:
    """Rank d / 2: equal steps from 1 to 2 / d, then zeros."""
    rank = size // 2
    return torch.cat([separated(rank), torch.zeros(size - rank, dtype=torch.float64)])


def geometric(size: int, condition: float) -> Tensor:
    """Equal ratios from 1 to 1 / ``condition``."""
    return condition ** -torch.linspace(0, 1, size, dtype=torch.float64)


def pairs(size: int, gap: float) -> Tensor:
    """Pairs a and a (1 - ``gap``), with a in equal steps from 1 to 2 / d; ``gap`` must be well below 2 / d."""
    larger = separated(size // 2)
    return torch.stack([larger, larger * (1 - gap)], -1).flatten()


def leading(size: int) -> int:
    """Number of eigenvectors of the projector: a quarter, at least two. The cut never splits a cluster or a pair."""
    return max(2, size // 4)


NAMED = {
    "separated": Spectrum(separated),
    "clustered": Spectrum(partial(clusters, gap=1e-6)),
    "repeated": Spectrum(partial(clusters, gap=0.0)),
    "tied": Spectrum(partial(clusters, gap=0.0), rotated=False),
    "deficient": Spectrum(deficient),
}


def sweeps(conditions: Sequence[int], gaps: Sequence[int]) -> dict[str, Spectrum]:
    """Spectra by condition number and by relative gap, in powers of ten: "condition 1e4", "gap 1e-6"."""
    by_condition = {f"condition 1e{k}": Spectrum(partial(geometric, condition=10.0**k)) for k in conditions}
    return by_condition | {f"gap 1e-{k}": Spectrum(partial(pairs, gap=10.0**-k)) for k in gaps}
