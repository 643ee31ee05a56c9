"""PCA denoising of the channels of a batch (wang2019, section 4.2)."""

from torch import Tensor

from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.functions import One, Restricted
from spectral_repro.linalg.selection import Both, Information, Leading


class PCADenoising(CovarianceNorm):
    """y = weight * (P S (x - mean)) + bias: channels standardised, then projected on their leading principal directions.

    S = diag(1 / sqrt(var + eps)) with the unbiased variance, P = sum of v v^T over the kept eigenvectors v of the correlation
    S cov S + eps I. The running average is that of P S, from the identity on (the published code starts P at 0).

    Args:
        components: how many directions to keep, or
        information: the share in (0, 1] of the sum of eigenvalues that the fewest leading ones must reach; one of the two.
        group_size: None, the default, takes all channels together.

    The other arguments, shapes and errors are those of `CovarianceNorm`.
    """

    def __init__(
        self,
        num_features: int,
        components: int | None = 16,
        information: float | None = None,
        group_size: int | None = None,
        **options,
    ):
        super().__init__(num_features, group_size, **options)
        if (components is None) == (information is None):
            raise ValueError(f"components={components} and information={information}: give one of them, the other null")
        if components is not None and not 1 <= components <= self.group_size:
            raise ValueError(f"components={components} must be between 1 and the {self.group_size} channels of a group")
        if information is not None and not 0 < information <= 1:
            raise ValueError(f"information={information} must be in (0, 1]")
        self.components, self.information = components, information
        keep = Leading(components) if information is None else Information(information)
        self.function = Restricted(One(), keep if self.cut is None else Both(keep, self.cut))
        self.backward_method.check(self.function, self.eps)

    def matrix(self, covariance: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        variance = covariance.diagonal(dim1=-2, dim2=-1) * (positions / (positions - 1))
        scale = (variance + self.eps).rsqrt()
        correlation = scale.unsqueeze(-1) * covariance * scale.unsqueeze(-2)
        projector, eigenvalues = matrix_function(correlation, self.function, self.backward_method, shift=self.eps)
        return projector * scale.unsqueeze(-2), eigenvalues

    def extra_repr(self) -> str:
        kept = f"components={self.components}" if self.information is None else f"information={self.information}"
        return f"{super().extra_repr()}, {kept}"
