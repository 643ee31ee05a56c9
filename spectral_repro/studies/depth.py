"""The effect of depth on the columns of a random network."""

from dataclasses import dataclass
from itertools import islice

import torch

from spectral_repro.bounds import Count
from spectral_repro.linalg.orthogonality import abs_cosine_similarity, orthogonality_gap
from spectral_repro.studies.gaussian import GaussianStudy
from spectral_repro.studies.summary import rows, with_log


@dataclass(frozen=True, kw_only=True)
class Depth(GaussianStudy):
    """Orthogonality gap, its logarithm and the mean absolute cosine of two columns by layer (daneshmand2021, Figures 1 and 2a).

    Layer 1 is the input. Every value is a mean over the networks, that of the logarithm a mean of logarithms; in float64.

    Attributes:
        samples, batch_norm, activation, start, layers, repeats: see `GaussianStudy`.
        width: d.

    Example:
        >>> study = Depth(samples=4, batch_norm=True, activation="identity", start=None, layers=20, repeats=5, width=32)
        >>> rows = study(torch.Generator().manual_seed(0))
        >>> rows[-1]["orthogonality_gap"] < rows[0]["orthogonality_gap"]
        True
    """

    width: Count

    def __post_init__(self) -> None:
        self.check(self.width)

    def __call__(self, generator: torch.Generator) -> list[dict[str, float]]:
        representations = islice(self.representations(self.width, generator), self.layers)
        gaps, cosines = zip(*((orthogonality_gap(h), abs_cosine_similarity(h)) for h in representations), strict=True)
        measured = {**with_log("orthogonality_gap", torch.stack(gaps)), "abs_cosine_similarity": torch.stack(cosines)}
        return rows("layer", range(1, self.layers + 1), measured)
