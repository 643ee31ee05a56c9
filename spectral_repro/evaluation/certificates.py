"""Certified radii of networks with a known Lipschitz constant: no smaller perturbation changes the class."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Predicate
from torch import Tensor

from spectral_repro.bounds import NotNegative, each_once
from spectral_repro.errors import UserError
from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.trained import Trained

RADIUS = 36 / 255


@dataclass(frozen=True)
class Certificates(Measurement):
    """Certified accuracy in percent at 36 / 255 and at ``radii`` / 255, and the mean certificate of correct predictions.

    Logits are computed in float32. The Lipschitz constant is the network's attribute ``lipschitz``, for normalised images,
    divided by the smallest standard deviation of the normalisation.

    Args:
        radii: of the curve of certified accuracy, in units of 1 / 255 of a pixel's range.

    Example:
        >>> Certificates(radii=[0, 36, 72]).settings  # python -m spectral_repro.evaluate metrics=certificates
        {'radii': [0, 36, 72]}
    """

    radii: Annotated[list[NotNegative], Predicate(each_once)]

    def __call__(self, trained: Trained) -> dict[str, Any]:
        """
        Raises:
            UserError: for a network without a known Lipschitz constant.
        """
        constant = getattr(trained.model, "lipschitz", None)
        if constant is None:
            raise UserError(
                f"no Lipschitz constant of {type(trained.model).__name__} is known; the network needs an attribute "
                "lipschitz, as LipConvnet with SOC or SOTT in place of all its convolutions has it"
            )
        logits, labels = trained.exact_predictions
        lipschitz = float(constant) / min(trained.config.dataset.std)
        radius = certificates(logits, labels, lipschitz)
        right = radius[radius > 0]
        return {
            "conditions": f"{len(labels):,} images",
            "images": len(labels),
            "lipschitz": lipschitz,
            "certified_accuracy": certified_accuracy(radius, RADIUS),
            "mean_certificate": right.mean().item() if len(right) else None,
            "curve": {
                "radii": [value / 255 for value in self.radii],
                "accuracy": [certified_accuracy(radius, value / 255) for value in self.radii],
            },
        }


def certificates(logits: Tensor, labels: Tensor, lipschitz: float) -> Tensor:
    """(logit of the label - largest other logit) / (sqrt(2) lipschitz), (N,) float64.

    Where it is positive, no image nearer than that (L2) gets another class: the difference of two logits changes by at most
    sqrt(2) lipschitz per unit (Tsuzuku et al., 2018). Negative where the class is wrong.
    """
    logits, column = logits.double(), labels[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(1)
    return (logits.gather(1, column)[:, 0] - others) / (math.sqrt(2) * lipschitz)


def certified_accuracy(radius: Tensor, at: float) -> float:
    """Percentage of images whose certificate is larger than ``at``."""
    return 100 * (radius > at).double().mean().item()
