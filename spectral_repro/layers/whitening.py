"""ZCA whitening of the channels of a batch (wang2019, section 4.1)."""

from torch import Tensor

from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.functions import InverseSqrt, Restricted


class ZCAWhitening(CovarianceNorm):
    """y = weight * ((cov + eps I)^(-1/2) (x - mean)) + bias: channels of a group leave with covariance close to the identity.

    Arguments, shapes and errors are those of `CovarianceNorm`.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.function = InverseSqrt() if self.cut is None else Restricted(InverseSqrt(), self.cut)
        self.backward_method.check(self.function, self.eps)

    def matrix(self, covariance: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        return matrix_function(covariance, self.function, self.backward_method, shift=self.eps)
