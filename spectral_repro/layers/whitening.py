"""ZCA whitening of the channels of a batch (wang2019, section 4.1)."""

from typing import Literal

from torch import Tensor

from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.functions import InverseSqrt, Restricted
from spectral_repro.linalg.selection import PublishedCut


class ZCAWhitening(CovarianceNorm):
    """y = weight * ((cov + eps I)^(-1/2) (x - mean)) + bias: channels of a group leave with covariance close to the identity.

    Args:
        truncation: "none" whitens every direction; "reference" drops the directions that wang2019's published code
            drops, at least the smallest of each group (`spectral_repro.linalg.selection.PublishedCut`).

    The other arguments, shapes and errors are those of `CovarianceNorm`.
    """

    def __init__(self, num_features: int, *args, truncation: Literal["none", "reference"] = "none", **options):
        super().__init__(num_features, *args, **options)
        self.truncation = check_truncation(truncation)
        self.function = InverseSqrt() if truncation == "none" else Restricted(InverseSqrt(), PublishedCut(self.eps))

    def matrix(self, covariance: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        return matrix_function(covariance, self.function, self.backward_method, shift=self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, truncation={self.truncation}"


def check_truncation(truncation: str) -> str:
    if truncation not in ("none", "reference"):
        raise ValueError(f"truncation={truncation} must be none or reference")
    return truncation
