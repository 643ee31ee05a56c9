"""What the whitening layers share: statistics of the batch, running statistics, affine part."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from spectral_repro.layers.moments import mix, moments
from spectral_repro.layers.replicas import whole_batch
from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.selection import PublishedCut, PublishedSVDCut

PUBLISHED_CUTS = {"reference": PublishedCut, "reference_svd": PublishedSVDCut}


class CovarianceNorm(nn.Module, ABC):
    """y = weight * (M (x - mean)) + bias, M a matrix that a subclass makes of the covariance of each group of channels.

    Used like `torch.nn.BatchNorm2d`. In training mean and M come from the batch; running averages of both (starting at 0 and
    the identity, new = (1 - momentum) old + momentum batch) serve evaluation.

    Args:
        num_features: channels C.
        group_size: d, channels whitened together; a divisor of C. None: all channels.
        backward: gradient method of the eigendecomposition.
        eps: added to the diagonal of the covariance.
        momentum: weight of the newest batch in the running averages.
        affine: learn a weight and a bias per channel.
        weight_init: start of the weight, "ones", or "uniform" in [0, 1) as in wang2019's code.
        truncation: "none" keeps every direction that the layer is defined on; "reference" also drops the directions that
            wang2019's published SVD-PI layer drops, at least the smallest of each group (`PublishedCut`); "reference_svd" those
            that its published plain SVD layer drops, most often all but the largest (`PublishedSVDCut`).
        decomposition: dtype of the d x d part, forward and backward, "float64" or "float32".

    Input (N, C) or (N, C, H, W), floating point; output of the same shape, dtype and memory format.

    Raises:
        ValueError: for an argument out of range, named in the message; for an input of another shape, or with a single
            position per channel in training.
        torch.linalg.LinAlgError: where the decomposition refuses a batch that holds NaN or infinity.
    """

    synchronised = False  # are the statistics those of all replicas? `replicas.synchronise` says so

    def __init__(
        self,
        num_features: int,
        group_size: int | None = 16,
        backward: Backward = Exact(),
        eps: float = 1e-4,
        momentum: float = 0.1,
        affine: bool = True,
        weight_init: Literal["ones", "uniform"] = "ones",
        truncation: Literal["none", "reference", "reference_svd"] = "none",
        decomposition: Literal["float64", "float32"] = "float64",
    ):
        super().__init__()
        group_size = num_features if group_size is None else group_size
        if group_size < 1 or num_features % group_size:
            divisors = ", ".join(str(d) for d in range(1, num_features + 1) if num_features % d == 0)
            raise ValueError(f"group_size={group_size} must divide the {num_features} channels: one of {divisors}")
        if not eps > 0:
            raise ValueError(f"eps={eps} must be > 0")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum={momentum} must be in (0, 1]")
        _check("weight_init", weight_init, "ones", "uniform")
        _check("truncation", truncation, "none", *PUBLISHED_CUTS)
        _check("decomposition", decomposition, "float64", "float32")
        self.num_features, self.group_size = num_features, group_size
        self.backward_method, self.eps, self.momentum = backward, eps, momentum
        self.truncation, self.decomposition = truncation, getattr(torch, decomposition)
        self.cut = PUBLISHED_CUTS[truncation](eps) if truncation in PUBLISHED_CUTS else None
        if affine:
            self.weight = nn.Parameter(torch.rand(num_features) if weight_init == "uniform" else torch.ones(num_features))
            self.bias = nn.Parameter(torch.zeros(num_features))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        groups = num_features // group_size
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_matrix", torch.eye(group_size).repeat(groups, 1, 1))
        self.register_buffer("eigenvalues", torch.ones(groups, group_size), persistent=False)

    @abstractmethod
    def matrix(self, covariance: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        """M (G, d, d) of the covariance (G, d, d) over N H W = ``positions``, and the eigenvalues (G, d) it was made from."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in (2, 4) or x.shape[1] != self.num_features:
            raise ValueError(f"expected (N, {self.num_features}) or (N, {self.num_features}, H, W), got {tuple(x.shape)}")
        images = x if x.dim() == 4 else x[:, :, None, None]
        images = images.to(torch.promote_types(x.dtype, torch.float32))
        if self.training:
            positions = images.numel() // self.num_features
            if positions < 2:
                raise ValueError(f"a covariance needs more than one position per channel in training, got {tuple(x.shape)}")
            images, mean, covariance = moments(images, self.group_size)
            if self.synchronised:
                mean, covariance, positions = whole_batch(mean, covariance, positions)
            matrix, eigenvalues = self.matrix(covariance.to(self.decomposition), positions)
            self._track(mean, matrix, eigenvalues)
        else:
            mean, matrix = self.running_mean, self.running_matrix
        shift = mean.detach().to(images.dtype)
        y = mix(images, shift, *self._affine(matrix, mean - shift, images.dtype))
        return y.to(x.dtype).view(x.shape) if x.dim() == 2 else y.to(x.dtype)

    def _affine(self, matrix: Tensor, rest: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """weight * M, and the bias that also takes off what of the mean the shift leaves."""
        if self.weight is not None:
            matrix = self.weight.view(-1, self.group_size, 1) * matrix
        bias = -(matrix @ rest.to(matrix.dtype).view(-1, self.group_size, 1)).flatten()
        if self.bias is not None:
            bias = bias + self.bias
        return matrix.to(dtype), bias.to(dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, matrix: Tensor, eigenvalues: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_matrix.lerp_(matrix.to(self.running_matrix.dtype), self.momentum)
        self.eigenvalues.copy_(eigenvalues)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, group_size={self.group_size}, backward={self.backward_method}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.weight is not None}, truncation={self.truncation}, "
            f"decomposition={self.decomposition}"
        )


def _check(name: str, value: str, *allowed: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value} must be {' or '.join(allowed)}")
