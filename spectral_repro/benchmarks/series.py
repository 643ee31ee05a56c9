"""suite=series: the factors with which gradient methods replace 1 / (lambda_i - lambda_j)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from spectral_repro.benchmarks.poster import largest_factors
from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.linalg.backward import Gapped


@dataclass(frozen=True)
class Series:
    """What to measure.

    Args:
        ratios: of the smaller eigenvalue to the larger one, which is 1.
        methods: gradient methods by name.
        published: the largest factors on song2021's poster.
        device, seed: unused; every suite takes them.
    """

    ratios: Sequence[float]
    methods: Mapping[str, Gapped]
    published: Mapping[str, float]
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        numbers = pd.concat([self.factors(name, method) for name, method in self.methods.items()], ignore_index=True)
        largest = largest_factors(self.published)
        note = "In float64; the exact factor is 1 / (1 − r) of the same r."
        displays = [
            Display("series", "Errors of the factors", "Relative to 1 / (1 − r).", table=wide(numbers, "relative_error")),
            Display("factors", "Factors", "Multiplied by the larger eigenvalue.", table=wide(numbers, "factor")),
            Display(
                "largest",
                "The largest factors",
                "On song2021's poster, and here.",
                table=largest.map(written),
            ),
        ]
        return SuiteResult("Series of the gradients", [note], {"series": numbers, "largest": largest}, displays)

    def factors(self, name: str, method: Gapped) -> pd.DataFrame:
        """A row for each ratio r: the factor between the eigenvalues 1 and r, and how far it is from 1 / (1 - r)."""
        ratios = torch.tensor(self.ratios, dtype=torch.float64)
        factor = method.reciprocal_gaps(torch.stack([torch.ones_like(ratios), ratios], dim=-1))[:, 0, 1].abs()
        error = (factor - 1 / (1 - ratios)).abs()
        columns = {"ratio": ratios, "factor": factor, "error": error, "relative_error": error * (1 - ratios)}
        return pd.DataFrame(columns).assign(method=name)[["method", *columns]]


def wide(numbers: pd.DataFrame, column: str) -> pd.DataFrame:
    return numbers.pivot(index="ratio", columns="method", values=column).map(short).reset_index()


def written(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
