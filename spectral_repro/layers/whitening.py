"""ZCA whitening of the channels of a batch (wang2019, section 4.1)."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from spectral_repro.layers.covariance_norm import CovarianceNorm, Decomposition, GroupSize, Running, Truncation
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.functions import InverseSqrt, Restricted, SpectralFunction

SHRINKAGE = 0.2


class ZCAWhitening(CovarianceNorm):
    """y = weight * ((S + eps I)^(-1/2) (x - mean)) + bias: the channels of a group become uncorrelated, with variance 1.

    S = (1 - a) Cov + a diag(Cov) is the covariance of a group of channels, shrunk by a towards its diagonal. With a = 1 the
    layer is batch norm. With a = 0 it whitens completely (wang2019, section 4.1). Directions in which the channels hardly vary
    are then multiplied by up to 1 / sqrt(eps), and change faster than running statistics can follow.

    Args:
        num_features: C, the number of channels.
        group_size: d, the channels that are whitened together, a divisor of C. "auto": the largest divisor up to 16. None: C.
        backward: gradient method of the eigendecomposition.
        eps: added to the diagonal of S.
        momentum: weight of the latest batch in the running statistics. None: average over all batches.
        affine: learn a weight for each channel, and a bias.
        track_running_stats: keep running statistics. Without them, evaluation uses the statistics of the batch.
        shrinkage: a in [0, 1]. None: 0.2, or 0 with a truncation, which selects directions of Cov itself.
        weight_init: start of the weight, "ones", or "uniform" in [0, 1) as in wang2019's code.
        truncation: "none" whitens every direction. "reference" drops the directions that wang2019's published SVD-PI layer
            drops, at least the smallest of each group (`PublishedCut`). "reference_svd" drops those that its published plain
            SVD layer drops, most often all but the largest (`PublishedSVDCut`).
        running: the running statistic for evaluation: "covariance" (unbiased, like the variance of batch norm) or "matrix", (S
            + eps I)^(-1/2) itself, as published. None: "covariance", or "matrix" with a truncation.
        decomposition: dtype of the d x d computations, float64 or float32, or its name.
        process_group: compute the statistics over the batches of these processes. None: of this process only.
        device: of parameters and buffers.
        dtype: of parameters and buffers.
        bias: with affine, learn a bias.

    Shape:
        Input (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), floating point. Output of the same shape, dtype and memory
        format.

    Raises:
        ValueError: for an argument out of range; for an input of another shape; in training, for a single position per channel.
        torch.linalg.LinAlgError: if the decomposition fails, as it may for a batch with NaN or infinity.

    Example:
        >>> layer = ZCAWhitening(64)
        >>> y = layer(torch.randn(32, 64, 8, 8))
    """

    def __init__(
        self,
        num_features: int,
        group_size: GroupSize = "auto",
        backward: Backward = Exact(),
        eps: float = 1e-4,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        shrinkage: float | None = None,
        weight_init: Literal["ones", "uniform"] = "ones",
        truncation: Truncation = "none",
        running: Running | None = None,
        decomposition: Decomposition = "float64",
        process_group: ProcessGroup | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        bias: bool = True,
    ):
        super().__init__(
            num_features,
            group_size,
            backward,
            eps,
            momentum,
            affine,
            track_running_stats,
            weight_init,
            truncation,
            running,
            decomposition,
            process_group,
            device,
            dtype,
            bias,
        )
        if shrinkage is None:
            shrinkage = SHRINKAGE if self.cut is None else 0.0
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage={shrinkage}: must be in [0, 1]")
        if shrinkage and self.cut is not None:
            raise ValueError(f"shrinkage={shrinkage}: must be 0 with truncation={truncation}, which is a cut of the covariance")
        self.shrinkage = shrinkage
        self.backward_method.check(self.function, self.eps)

    def matrix(self, covariance: Tensor, correction: float | Tensor) -> tuple[Tensor, Tensor]:
        if self.shrinkage:
            variances = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
            covariance = covariance.lerp(variances, self.shrinkage)
        return matrix_function(covariance, self.function, self.backward_method, shift=self.eps)

    @property
    def settings(self) -> tuple[Any, ...]:
        return *super().settings, self.shrinkage

    @property
    def function(self) -> SpectralFunction:
        """The function of S whose value, with ``eps`` as its shift, is the matrix."""
        return InverseSqrt() if self.cut is None else Restricted(InverseSqrt(), self.cut)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, shrinkage={self.shrinkage}"
