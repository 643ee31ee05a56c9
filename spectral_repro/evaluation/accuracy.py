"""Accuracy on the test images."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.trained import Trained


def accuracy(logits: Tensor, labels: Tensor, best: int = 1) -> float:
    """Percentage of images (N, K) whose label (N,) is among the ``best`` largest logits."""
    near = logits.topk(best).indices == labels[:, None]
    return 100 * near.any(1).double().mean().item()


@dataclass(frozen=True)
class Accuracy(Measurement):
    """Top-1 accuracy and, for more than 5 classes, top-5 accuracy in percent.

    Example:
        >>> Accuracy().settings  # python -m spectral_repro.evaluate metrics=accuracy
        {}
    """

    def __call__(self, trained: Trained) -> dict[str, Any]:
        logits, labels = trained.predictions
        found = {"conditions": f"{len(labels):,} images", "images": len(labels), "accuracy": accuracy(logits, labels)}
        return found | ({"top5_accuracy": accuracy(logits, labels, 5)} if logits.shape[1] > 5 else {})
