"""PCA denoising of the channels of a batch (wang2019, section 4.2)."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from spectral_repro.layers.covariance_norm import CovarianceNorm, Decomposition, GroupSize, Running, Truncation
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.checks import is_count
from spectral_repro.linalg.functions import One, Restricted, SpectralFunction
from spectral_repro.linalg.selection import Both, Information, Leading


class PCADenoising(CovarianceNorm):
    """y = weight * (P S (x - mean)) + bias: channels standardised, then projected on their leading principal directions.

    S = diag(1 / sqrt(var + eps)) with the unbiased variance, and P is the sum of v v^T over the kept eigenvectors v of the
    correlation S Cov S + eps I (wang2019, section 4.2).

    Args:
        num_features: C, the number of channels.
        components: number of directions to keep in each group. Give this or ``information``, and None for the other.
        information: in (0, 1]; keep the fewest leading directions whose eigenvalues reach this share of their sum.
        group_size: d, the channels that are taken together, a divisor of C. "auto": the largest divisor up to 16. None: C.
        backward: gradient method of the eigendecomposition.
        eps: added to the variances, and to the diagonal of the correlation.
        momentum: weight of the latest batch in the running statistics. None: average over all batches.
        affine: learn a weight for each channel, and a bias.
        track_running_stats: keep running statistics. Without them, evaluation uses the statistics of the batch.
        weight_init: start of the weight, "ones", or "uniform" in [0, 1) as in wang2019's code.
        truncation: "none" keeps the directions named above. "reference" also drops those that wang2019's published SVD-PI layer
            drops, at least the smallest of each group (`PublishedCut`); "reference_svd" those that its published plain SVD
            layer drops (`PublishedSVDCut`).
        running: the running statistic for evaluation: "covariance" (unbiased, like the variance of batch norm) or "matrix", P S
            itself as published, except that it starts at the identity and not at P = 0. None: "covariance", or "matrix" with a
            truncation.
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
        >>> layer = PCADenoising(64, components=16)
        >>> y = layer(torch.randn(32, 64, 8, 8))
    """

    def __init__(
        self,
        num_features: int,
        components: int | None = 16,
        information: float | None = None,
        group_size: GroupSize = None,
        backward: Backward = Exact(),
        eps: float = 1e-4,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
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
        self.components, self.information = components, information
        self.backward_method.check(self.function, self.eps)

    def matrix(self, covariance: Tensor, correction: float | Tensor) -> tuple[Tensor, Tensor]:
        variance = covariance.diagonal(dim1=-2, dim2=-1) * correction
        scale = (variance + self.eps).rsqrt()
        correlation = scale.unsqueeze(-1) * covariance * scale.unsqueeze(-2)
        projector, eigenvalues = matrix_function(correlation, self.function, self.backward_method, shift=self.eps)
        return projector * scale.unsqueeze(-2), eigenvalues

    @property
    def settings(self) -> tuple[Any, ...]:
        return *super().settings, self.components, self.information

    @property
    def function(self) -> SpectralFunction:
        """1 for the eigenvalues of the directions that are kept, else 0."""
        components, information = self.components, self.information
        keep: Callable[[Tensor], Tensor]
        if components is not None and information is None:
            if not is_count(components) or components > self.group_size:
                limits = f"from 1 to the {self.group_size} channels of a group"
                raise ValueError(f"components={components!r}: must be a whole number {limits}")
            keep = Leading(int(components))
        elif information is not None and components is None:
            if not 0 < information <= 1:
                raise ValueError(f"information={information}: must be in (0, 1]")
            keep = Information(information)
        else:
            raise ValueError(f"components={components} and information={information}: give one, and None (null) for the other")
        return Restricted(One(), keep if self.cut is None else Both(keep, self.cut))

    def extra_repr(self) -> str:
        kept = f"components={self.components}" if self.information is None else f"information={self.information}"
        return f"{super().extra_repr()}, {kept}"
