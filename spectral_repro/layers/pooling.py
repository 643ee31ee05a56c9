"""Pooling of the feature maps of an image into one vector, by first and second moments."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from spectral_repro.layers.covariance_norm import Decomposition, decomposition_dtype
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.backward import Backward, Exact, Kernel, NewtonSchulz
from spectral_repro.linalg.backward.method import check_method
from spectral_repro.linalg.checks import check_count, check_floating, dtype_name
from spectral_repro.linalg.feature_covariance import covariance, covariance_functions, covariance_newton_schulz
from spectral_repro.linalg.functions import Exp, Product, Sqrt


class Pooling(nn.Module, ABC):
    """Base class: (N, in_channels, H, W) to (N, out_features); out_features = C unless a subclass says otherwise.

    Args:
        in_channels: channels of the features.
        channels: C, to which a 1 x 1 convolution with batch norm and ReLU reduces them; None: no such convolution.
        device, dtype: of the weights of that convolution and batch norm, and of the buffers of a layer that has some.

    Raises:
        ValueError: for ``in_channels`` or ``channels`` below 1; for an input of another shape, or that is not floating point.

    Example:
        >>> class RootMeanSquare(Pooling):
        ...     def pool(self, features):
        ...         return features.square().mean(2).sqrt()
        >>> RootMeanSquare(16)(torch.randn(8, 16, 5, 5)).shape
        torch.Size([8, 16])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_count("in_channels", in_channels)
        if channels is not None:
            check_count("channels", channels)
        self.in_channels = int(in_channels)
        self.channels = self.in_channels if channels is None else int(channels)
        self.out_features = self.channels
        self.reduction: nn.Module = nn.Identity()
        if channels is not None:
            convolution = nn.Conv2d(self.in_channels, self.channels, 1, bias=False, device=device, dtype=dtype)
            norm = nn.BatchNorm2d(self.channels, device=device, dtype=dtype)
            self.reduction = nn.Sequential(convolution, norm, nn.ReLU(inplace=True))

    def reset_parameters(self) -> None:
        """Draws the initial weights again."""
        if isinstance(self.reduction, nn.Sequential):
            convolution: Any = self.reduction[0]
            norm: Any = self.reduction[1]
            convolution.reset_parameters()
            norm.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected (N, {self.in_channels}, H, W), got {tuple(x.shape)}")
        check_floating(x)
        return self.pool(self.reduction(x).flatten(2))

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """(N, C, P) to (N, out_features)."""

    def extra_repr(self) -> str:
        return f"{self.in_channels}, channels={self.channels}"


class AveragePooling(Pooling):
    """The mean over the positions: C features. Arguments and errors as `Pooling`.

    Example:
        >>> AveragePooling(64)(torch.randn(8, 64, 7, 7)).shape
        torch.Size([8, 64])
    """

    def pool(self, features: Tensor) -> Tensor:
        return features.mean(-1)


class MaxPooling(Pooling):
    """The maximum over the positions: C features. Arguments and errors as `Pooling`.

    Example:
        >>> MaxPooling(64)(torch.randn(8, 64, 7, 7)).shape
        torch.Size([8, 64])
    """

    def pool(self, features: Tensor) -> Tensor:
        return features.amax(-1)


class CovariancePooling(Pooling):
    """The upper triangle of the square root of the covariance of the features over the positions (song2021): C (C + 1) / 2.

    With fewer positions than channels the small Gram matrix is decomposed instead of the covariance (`covariance_functions`).
    `NewtonSchulz(5, forward="newton_schulz")` (iSQRT-COV) iterates on the smaller of the two, with the same result. Other
    methods without a decomposition use the covariance. ONNX has no eigendecomposition: to export, take `NewtonSchulz` with 30
    iterations in float64, which give the exact root to the accuracy of float32.

    Args:
        in_channels, channels, device, dtype: see `Pooling`.
        backward: gradient method of the square root.
        decomposition: dtype of the covariance and its decomposition, float64 or float32, or its name.

    Output in the dtype of the features, of half-precision ones in float32.

    Raises:
        ValueError: for a method that cannot compute the square root, and as `Pooling`.
        torch.linalg.LinAlgError: if the decomposition fails for a batch that holds NaN or infinity.

    Example:
        >>> CovariancePooling(64)(torch.randn(8, 64, 7, 7)).shape
        torch.Size([8, 2080])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        backward: Backward = Exact(),
        decomposition: Decomposition = "float64",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, channels, device, dtype)
        self.decomposition = decomposition_dtype(decomposition)
        check_method("backward", backward)
        backward.check(Sqrt(), shift=0.0)
        self.backward_method = backward
        self.out_features = self.channels * (self.channels + 1) // 2

    def pool(self, features: Tensor) -> Tensor:
        with full_precision(features.device):
            dtype = torch.promote_types(features.dtype, torch.float32)
            return _upper_triangle(self.root(features.to(self.decomposition), dtype))

    def root(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """The square root (N, C, C), of this dtype, of the covariance of features (N, C, P)."""
        method = self.backward_method.current
        if isinstance(method, Kernel) and method.decomposes:
            return covariance_functions(features, [(Sqrt(), method)], dtype)[0]
        if isinstance(method, NewtonSchulz):
            return covariance_newton_schulz(features, method.iterations).to(dtype)
        return matrix_function(covariance(features), Sqrt(), method)[0].to(dtype)

    def extra_repr(self) -> str:
        decomposition = dtype_name(self.decomposition)
        return f"{super().extra_repr()}, backward={self.backward_method}, decomposition={decomposition}"


def _upper_triangle(matrix: Tensor) -> Tensor:
    """The entries (N, C (C + 1) / 2) of matrices (N, C, C) on and above the diagonal, row by row."""
    size = matrix.shape[-1]
    row, column = torch.triu_indices(size, size, device=matrix.device)
    places = size * row + column
    if matrix.requires_grad and not torch._C._are_functorch_transforms_active():
        entries: Tensor = _Selected.apply(matrix.flatten(1), places)
        return entries
    return matrix.flatten(1).index_select(1, places)


class _Selected(torch.autograd.Function):
    """Columns of a matrix, each once.

    The gradient writes the entries; that of torch's index_select adds them, which takes longer.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.columns = rows.shape[1]
        ctx.save_for_backward(places)
        return rows.index_select(1, places)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        grad_rows = grad_output.new_zeros(grad_output.shape[0], ctx.columns)
        return grad_rows.scatter_(1, places.expand_as(grad_output), grad_output), None


class ScalingEigenBranch(CovariancePooling):
    """`CovariancePooling` scaled by the weight of its small eigenvalues (Song et al., TPAMI 2022, as in its published code):

        (1 + |A|_F) Q,   Q = cov^(1/2),   A = Q exp(-cov).

    The code divides A entry by entry by A / |A|_F, which leaves one factor for each image. The gradient of Q is that of
    ``backward``, that of A exact. Arguments, shapes and errors as there; the method must decompose.

    Args:
        in_channels, channels, backward, decomposition, device, dtype: see `CovariancePooling`.

    Example:
        >>> ScalingEigenBranch(64)(torch.randn(8, 64, 7, 7)).shape
        torch.Size([8, 2080])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        backward: Backward = Exact(),
        decomposition: Decomposition = "float64",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, channels, backward, decomposition, device, dtype)
        if not self.backward_method.decomposes:
            raise ValueError(f"backward={self.backward_method}: has no eigenvalues to scale, take a method that decomposes")

    def root(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        method, damped = self.backward_method.current, Product(Sqrt(), Exp(-1.0))
        assert isinstance(method, Kernel)  # since it decomposes
        root, branch = covariance_functions(features, [(Sqrt(), method), (damped, Exact())], dtype)
        norm: Tensor = torch.linalg.matrix_norm(branch, keepdim=True)
        return root * (1 + norm)


class BilinearPooling(Pooling):
    """The second moment X X^T / P of the features, with signed square roots of its entries and length 1 (Lin et al. 2015): C^2.

    Arguments and errors as `Pooling`. Computed outside autocast; output in the dtype of the features, of half-precision ones in
    float32.

    Args:
        in_channels, channels, device, dtype: see `Pooling`.

    Example:
        >>> BilinearPooling(64)(torch.randn(8, 64, 7, 7)).shape
        torch.Size([8, 4096])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, channels, device, dtype)
        self.out_features = self.channels**2

    def pool(self, features: Tensor) -> Tensor:
        return _signed_root(_moment(features))


class CompactBilinearPooling(Pooling):
    """Bilinear pooling in ``out_features`` dimensions by tensor sketch (Gao et al. 2016).

    Two count sketches put channel c with random signs s(c), t(c) into random places h(c), k(c); their circular convolution,
    summed over the positions, keeps inner products in expectation. It is linear in X X^T: the entry (c, e) goes with the sign
    s(c) t(e) to the place h(c) + k(e). So it is a scatter of C^2 numbers here; its authors convolve by FFT at every position.

    Args:
        in_channels, channels, device, dtype: see `Pooling`.
        out_features: number of dimensions.

    Computed outside autocast; output in the dtype of the features, of half-precision ones in float32. Places and signs are
    drawn from torch's global generator, and saved with the weights.

    Raises:
        ValueError: for ``out_features`` below 1, and as `Pooling`.

    Example:
        >>> CompactBilinearPooling(64, out_features=1024)(torch.randn(8, 64, 7, 7)).shape
        torch.Size([8, 1024])
    """

    places: Tensor
    signs: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        out_features: int = 8192,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, channels, device, dtype)
        check_count("out_features", out_features)
        self.out_features = int(out_features)
        places = torch.empty(self.channels, self.channels, dtype=torch.long, device=device)
        self.register_buffer("places", places)
        self.register_buffer("signs", torch.empty(places.shape, device=device, dtype=dtype))
        self._draw()

    def reset_parameters(self) -> None:
        """Draws the initial weights, places and signs again."""
        super().reset_parameters()
        self._draw()

    @torch.no_grad()
    def _draw(self) -> None:
        device = self.places.device
        first, second = torch.randint(self.out_features, (2, self.channels), device=device)
        first_signs, second_signs = 2 * torch.randint(2, (2, self.channels), device=device) - 1
        self.places.copy_((first[:, None] + second) % self.out_features)
        self.signs.copy_(first_signs[:, None] * second_signs)

    def pool(self, features: Tensor) -> Tensor:
        moment = _moment(features)
        moment = moment * self.signs.to(moment.dtype)
        sketch = moment.new_zeros(moment.shape[0], self.out_features)
        return _signed_root(sketch.index_add(1, self.places.flatten(), moment.flatten(1)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, out_features={self.out_features}"


def _moment(features: Tensor) -> Tensor:
    """X X^T / P (N, C, C) of X (N, C, P), in float32 of half-precision features: their products leave the range of float16."""
    with full_precision(features.device):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return features @ features.mT / features.shape[-1]


def _signed_root(x: Tensor) -> Tensor:
    """sign(x) sqrt(|x| + 1e-10) as a vector of length 1."""
    x = x.flatten(1)
    return normalize(x.sign() * (x.abs() + 1e-10).sqrt(), dim=1)
