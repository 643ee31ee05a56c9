"""Calibration: whether a network's confidence equals its accuracy (Guo et al., 2017)."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.trained import Trained


@dataclass(frozen=True)
class Calibration(Measurement):
    """Expected calibration error, negative log-likelihood, Brier score, and the bins of a reliability diagram.

    Attributes:
        bins: number of bins of equal width over the confidence, each (low, high].

    Example:
        >>> Calibration(bins=15).settings  # python -m spectral_repro.evaluate metrics=calibration
        {'bins': 15}
    """

    bins: Annotated[int, Interval(ge=1, le=1000)]

    def __call__(self, trained: Trained) -> dict[str, Any]:
        logits, labels = trained.predictions
        probabilities = logits.double().softmax(1)
        reliability = bin_confidence(*confidence_and_hits(probabilities, labels), self.bins)
        return {
            "conditions": f"{self.bins} bins, {len(labels):,} images",
            "images": len(labels),
            "ece": expected_calibration_error(*reliability),
            "nll": cross_entropy(logits.double(), labels).item(),
            "brier": brier_score(probabilities, labels),
            "bins": dict(zip(("images", "confidence", "accuracy"), (part.tolist() for part in reliability), strict=True)),
        }


def confidence_and_hits(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The largest probability of each image, and whether its class is right: both (N,) float64."""
    confidence, classes = probabilities.double().max(1)
    return confidence, (classes == labels).double()


def bin_confidence(confidence: Tensor, hits: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Number of images, mean confidence and share of hits in each of ``bins`` bins (i / bins, (i + 1) / bins], in [0, 1];
    all (bins,) float64, an empty bin 0.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
    which = torch.bucketize(confidence, edges[1:-1])
    sums = torch.zeros(3, bins, dtype=torch.float64, device=confidence.device)
    sums.index_add_(1, which, torch.stack([torch.ones_like(confidence), confidence, hits]))
    return sums[0], *(sums[1:] / sums[0].clamp(min=1))


def expected_calibration_error(images: Tensor, confidence: Tensor, accuracy: Tensor) -> float:
    """sum_b n_b / N |accuracy_b - confidence_b| over the bins (Guo et al., 2017, equation 3), in [0, 1]."""
    return ((images / images.sum()) * (accuracy - confidence).abs()).sum().item()


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Mean over the images of sum_k (p_k - [k is the label])^2, in [0, 2] (Brier, 1950)."""
    return (probabilities - one_hot(labels, probabilities.shape[1])).square().sum(1).mean().item()
