"""Pooling of feature maps into one vector an image, by first and second moments."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.backward import Backward, Exact
from spectral_repro.linalg.feature_covariance import covariance, covariance_functions
from spectral_repro.linalg.functions import Exp, Product, Sqrt


class Pooling(nn.Module, ABC):
    """(N, in_channels, H, W) to (N, out_features).

    Args:
        in_channels: channels of the features.
        channels: C, what a 1 x 1 convolution with batch norm and ReLU reduces them to; None: no such convolution.

    Raises:
        ValueError: for ``channels`` below 1, and for an input of another shape.
    """

    out_features: int

    def __init__(self, in_channels: int, channels: int | None = None):
        super().__init__()
        if channels is not None and channels < 1:
            raise ValueError(f"channels={channels}: must be >= 1, or None")
        self.in_channels, self.channels = in_channels, channels or in_channels
        self.reduction = nn.Identity()
        if channels is not None:
            convolution = nn.Conv2d(in_channels, channels, 1, bias=False)
            self.reduction = nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected (N, {self.in_channels}, H, W), got {tuple(x.shape)}")
        return self.pool(self.reduction(x).flatten(2))

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """(N, C, P) to (N, out_features)."""


class AveragePooling(Pooling):
    """The mean over the positions: C features."""

    def __init__(self, in_channels: int, channels: int | None = None):
        super().__init__(in_channels, channels)
        self.out_features = self.channels

    def pool(self, features: Tensor) -> Tensor:
        return features.mean(-1)


class CovariancePooling(Pooling):
    """The upper triangle of the square root of the covariance of the features over the positions (song2021): C (C + 1) / 2.

    With fewer positions than channels the small Gram matrix is decomposed in place of the covariance (`covariance_functions`).
    Methods that decompose nothing, such as `NewtonSchulz(5, forward="newton_schulz")` (iSQRT-COV), take the covariance.

    Args:
        in_channels, channels: see `Pooling`.
        backward: gradient method of the square root.
        decomposition: dtype of the covariance and its decomposition, "float64" or "float32".

    Output in the dtype of the features, of half-precision ones in float32.

    Raises:
        ValueError: for a method that has no meaning here, and as `Pooling`.
        torch.linalg.LinAlgError: where the decomposition refuses a batch that holds NaN or infinity.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        backward: Backward = Exact(),
        decomposition: Literal["float64", "float32"] = "float64",
    ):
        super().__init__(in_channels, channels)
        if decomposition not in ("float64", "float32"):
            raise ValueError(f"decomposition={decomposition} must be float64 or float32")
        backward.check(Sqrt(), shift=0.0)
        self.backward_method, self.decomposition = backward, getattr(torch, decomposition)
        self.out_features = self.channels * (self.channels + 1) // 2

    def pool(self, features: Tensor) -> Tensor:
        with full_precision(features.device):
            dtype = torch.promote_types(features.dtype, torch.float32)
            return _UpperTriangle.apply(self.root(features.to(self.decomposition), dtype))

    def root(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """The square root (N, C, C), of this dtype, of the covariance of features (N, C, P)."""
        method = self.backward_method.current
        if method.decomposes:
            return covariance_functions(features, [(Sqrt(), method)], dtype)[0]
        return method.evaluate(covariance(features), Sqrt(), shift=0.0)[0].to(dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, channels={self.channels}, backward={self.backward_method}, decomposition={self.decomposition}"
        )


class _UpperTriangle(torch.autograd.Function):
    """The entries (N, C (C + 1) / 2) of matrices (N, C, C) on and above the diagonal, row by row.

    Its gradient writes entries to their places, where autograd would add to them, as if a place could be met twice.
    """

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        size = matrix.shape[-1]
        row, column = torch.triu_indices(size, size, device=matrix.device)
        ctx.size, ctx.places = size, size * row + column
        return matrix.flatten(1).index_select(1, ctx.places)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        slope = gradient.new_zeros(len(gradient), ctx.size, ctx.size)
        slope.flatten(1).scatter_(1, ctx.places.expand_as(gradient), gradient)
        return slope


class ScalingEigenBranch(CovariancePooling):
    """`CovariancePooling` scaled by what its small eigenvalues weigh (Song et al., TPAMI 2022, as its published code):

        (1 + |A|_F) Q,   Q = cov^(1/2),   A = Q exp(-cov).

    The code divides A entry by entry by A / |A|_F, so that one factor for the image is left. The gradient of Q is that of
    ``backward``, that of A exact. Arguments, shapes and errors as there; the method must decompose.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if not self.backward_method.decomposes:
            raise ValueError(f"backward={self.backward_method} has no eigenvalues to scale: take a method that decomposes")

    def root(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        damped = Product(Sqrt(), Exp(-1.0))
        root, branch = covariance_functions(features, [(Sqrt(), self.backward_method.current), (damped, Exact())], dtype)
        return root * (1 + torch.linalg.matrix_norm(branch, keepdim=True))


class BilinearPooling(Pooling):
    """The second moment X X^T / P of the features, its signed roots entry by entry, at length 1 (Lin et al. 2015): C^2."""

    def __init__(self, in_channels: int, channels: int | None = None):
        super().__init__(in_channels, channels)
        self.out_features = self.channels**2

    def pool(self, features: Tensor) -> Tensor:
        return _signed_root(features @ features.mT / features.shape[-1])


class CompactBilinearPooling(Pooling):
    """Bilinear pooling in ``out_features`` dimensions by tensor sketch (Gao et al. 2016).

    Two count sketches put channel c with random signs s(c), t(c) into random places h(c), k(c); their circular convolution,
    summed over the positions, keeps inner products in expectation. It is linear in X X^T: the entry (c, e) goes with the sign
    s(c) t(e) to the place h(c) + k(e). So it is a scatter of C^2 numbers here; its authors convolve by FFT at every position.
    """

    def __init__(self, in_channels: int, channels: int | None = None, out_features: int = 8192):
        super().__init__(in_channels, channels)
        if out_features < 1:
            raise ValueError(f"out_features={out_features}: must be >= 1")
        self.out_features = out_features
        first, second = torch.randint(out_features, (2, self.channels))
        first_signs, second_signs = 2.0 * torch.randint(2, (2, self.channels)) - 1
        self.register_buffer("places", (first[:, None] + second) % out_features)
        self.register_buffer("signs", first_signs[:, None] * second_signs)

    def pool(self, features: Tensor) -> Tensor:
        moment = (features @ features.mT / features.shape[-1]).float() * self.signs
        sketch = moment.new_zeros(len(moment), self.out_features)
        return _signed_root(sketch.index_add(1, self.places.flatten(), moment.flatten(1)))


def _signed_root(x: Tensor) -> Tensor:
    """sign(x) sqrt(|x| + 1e-10) as a vector of length 1."""
    x = x.float().flatten(1)
    return normalize(x.sign() * (x.abs() + 1e-10).sqrt(), dim=1)
