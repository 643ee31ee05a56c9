"""Spectra to measure gradients on: d eigenvalues in descending order, float64, the largest 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """``eigenvalues`` maps d to the spectrum; ``rotated`` by a random orthogonal matrix, or on the coordinate axes."""

    eigenvalues: Callable[[int], Tensor]
    rotated: bool = True


def separated(size: int) -> Tensor:
    """1 to 1 / d in equal steps: condition number d."""
    return torch.arange(size, 0, -1, dtype=torch.float64) / size


def clusters(size: int, gap: float) -> Tensor:
    """Clusters of `leading` (d) eigenvalues about 1, 1/2, 1/4, ..., relative gaps of ``gap`` within each."""
    members = leading(size)
    levels = 0.5 ** torch.arange(size // members, dtype=torch.float64)
    return (levels.unsqueeze(-1) * (1 - gap * torch.arange(members, dtype=torch.float64))).flatten()


def deficient(size: int) -> Tensor:
    """Rank d / 2: 1 to 2 / d in equal steps, then zeros."""
    rank = size // 2
    return torch.cat([separated(rank), torch.zeros(size - rank, dtype=torch.float64)])


def geometric(size: int, condition: float) -> Tensor:
    """1 to 1 / ``condition`` in equal ratios."""
    return condition ** -torch.linspace(0, 1, size, dtype=torch.float64)


def pairs(size: int, gap: float) -> Tensor:
    """Pairs a, a (1 - ``gap``), a from 1 to 2 / d in equal steps; ``gap`` well below 2 / d keeps them apart."""
    larger = separated(size // 2)
    return torch.stack([larger, larger * (1 - gap)], -1).flatten()


def leading(size: int) -> int:
    """How many eigenvectors the projector of the benchmark takes: a quarter, at least two. No cluster or pair is cut there."""
    return max(2, size // 4)


NAMED = {
    "separated": Spectrum(separated),
    "clustered": Spectrum(partial(clusters, gap=1e-6)),
    "repeated": Spectrum(partial(clusters, gap=0.0)),
    "tied": Spectrum(partial(clusters, gap=0.0), rotated=False),
    "deficient": Spectrum(deficient),
}


def sweeps(conditions: Sequence[int], gaps: Sequence[int]) -> dict[str, Spectrum]:
    """Condition numbers and relative gaps by powers of ten: "condition 1e4", "gap 1e-6"."""
    by_condition = {f"condition 1e{k}": Spectrum(partial(geometric, condition=10.0**k)) for k in conditions}
    return by_condition | {f"gap 1e-{k}": Spectrum(partial(pairs, gap=10.0**-k)) for k in gaps}
