"""Skew orthogonal convolution (Singla and Feizi 2021) and its activation."""

import math
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_unshuffle

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.conv_symbol import Size, pair
from spectral_repro.linalg.power_iteration import norm_of_image

ITERATIONS, RESTART = 50, 200


class MinMax(nn.Module):
    """(min(a, b), max(a, b)) of the two halves a and b of the channels (Anil et al. 2019), (N, C, H, W) to the same.

    It permutes the channels of each position, so it is 1-Lipschitz and preserves the norm of gradients.

    Raises:
        ValueError: for an odd number of channels.

    Example:
        >>> MinMax()(torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 4, 1, 1)).flatten()
        tensor([ 0.5000, -2.0000,  1.0000,  3.0000])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % 2:
            raise ValueError(f"expected an even number of channels, got {tuple(x.shape)}")
        first, second = x.chunk(2, 1)
        swap = first > second
        return torch.cat([torch.where(swap, second, first), torch.where(swap, first, second)], 1)


class SOC(nn.Module):
    """y = P exp(L) E x + bias with all singular values 1, where L is a skew-symmetric convolution. Used like `nn.Conv2d`.

    E turns stride x stride pixels into channels and adds channels of zeros up to C = max(stride^2 in_channels, out_channels). P
    drops the channels beyond ``out_channels``. L has the kernel c K / sigma, K = (W - W^T) / 2, where W^T is W with input and
    output channels exchanged and both directions mirrored. With zero padding of half the kernel, L is a skew-symmetric matrix.

    The series of exp is cut after the power n. Singular values then differ from 1 by at most t^(n + 1) / (n + 1)!, t = |L|:
    with t = 2.1, for which the published c is meant, by 0.12 in training (n = 5) and 2.5e-6 in evaluation (n = 12).

    sigma = min(|R|_2, |T|_2) for the (C k, C k) unfolding R and the (C, C k^2) unfolding T of K; k sigma bounds |K| (Singla and
    Feizi 2021, "Fantastic Four"; the other two unfoldings of a skew kernel are transposes of these). The norms are |R v| and |T
    v|, with v from a power iteration that continues from the last call: 50 iterations in the first training call and in every
    200th, otherwise 1. The gradient of sigma treats both v as constants: it is exact where the iteration has converged. A
    second derivative of sigma in training raises an error (`norm_of_image`). For K = 0, sigma is 1 and both v are unchanged.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias, device, dtype: those of `nn.Conv2d`. The kernel is square
            and odd, the padding is half its size (also if None), and the stride is the same in both directions.
        train_terms, eval_terms: n in training and in evaluation.
        correction: c; None: 0.7, and 1 for 1 x 1 kernels, as published.

    Input (N, in_channels, H, W), H and W multiples of the stride; output (N, out_channels, H / stride, W / stride).

    Raises:
        ValueError: for another geometry, another argument out of range, and an input of another shape.
        NotImplementedError: for a second derivative with respect to the weight in training.

    Example:
        >>> SOC(3, 8, stride=2)(torch.randn(2, 3, 6, 6)).shape
        torch.Size([2, 8, 3, 3])
    """

    replaces = (nn.Conv2d,)
    v_1: Tensor
    v_2: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        stride: Size = 1,
        padding: Size | None = None,
        *,
        bias: bool = True,
        train_terms: int = 5,
        eval_terms: int = 12,
        correction: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_count("in_channels", in_channels)
        check_count("out_channels", out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        (self.kernel_size, width), (self.stride, across) = pair("kernel_size", kernel_size), pair("stride", stride)
        half = self.kernel_size // 2
        square = self.kernel_size == width and self.stride == across
        if not square or self.kernel_size % 2 == 0 or padding not in (None, half, (half, half)):
            raise ValueError(
                "a skew-symmetric convolution has an odd square kernel, half of it as padding, and the same stride in both "
                f"directions; not {kernel_size=}, {padding=}, {stride=}"
            )
        check_count("train_terms", train_terms)
        check_count("eval_terms", eval_terms)
        self.train_terms, self.eval_terms = train_terms, eval_terms
        if correction is None:
            correction = 0.7 if self.kernel_size > 1 else 1.0
        if not 0 < correction < math.inf:
            raise ValueError(f"correction={correction}: must be a finite number > 0")
        self.correction = correction
        self.channels = max(self.stride**2 * in_channels, out_channels)
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(self.channels, self.channels, self.kernel_size, self.kernel_size, **options))
        self.bias = nn.Parameter(torch.empty(out_channels, **options)) if bias else None
        self.register_buffer("v_1", torch.empty(self.channels * self.kernel_size, **options))
        self.register_buffer("v_2", torch.empty(self.channels * self.kernel_size**2, **options))
        self.calls = torch.zeros((), dtype=torch.int64, device="cpu")  # no buffer: read in every call, so it stays on the CPU
        self.reset_parameters()

    @classmethod
    def from_module(cls, module: nn.Conv2d, keep_weights: bool = True, train_terms: int = 5, eval_terms: int = 12) -> Self:
        """A layer of the shape, device and dtype of a convolution, with random weights.

        Raises:
            ValueError: if ``keep_weights``, and for another geometry.
        """
        return cls(**geometry(module, keep_weights), train_terms=train_terms, eval_terms=eval_terms)

    def to_module(self) -> nn.Module:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError("applies several zero-padded convolutions in turn; no single nn.Conv2d computes the same")

    def reset_parameters(self) -> None:
        """Draws weight, bias and the vectors of the power iteration again, and iterates."""
        nn.init.normal_(self.v_1)
        nn.init.normal_(self.v_2)
        nn.init.normal_(self.weight, std=self.channels**-0.5)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(self.out_channels**-0.5), self.out_channels**-0.5)
        self.calls.zero_()
        self._iterate()
        self.calls.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels or x.shape[2] % self.stride or x.shape[3] % self.stride:
            multiples = f" with H and W multiples of {self.stride}" if self.stride > 1 else ""
            raise ValueError(f"expected (N, {self.in_channels}, H, W){multiples}, got {tuple(x.shape)}")
        if self.stride > 1:
            x = pixel_unshuffle(x, self.stride)
        if x.shape[1] < self.channels:
            x = pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))
        kernel, y = self.kernel(), x
        for power in range(self.train_terms if self.training else self.eval_terms, 0, -1):
            y = torch.add(x, conv2d(y, kernel, padding=self.kernel_size // 2), alpha=1 / power)
        y = y[:, : self.out_channels]
        return y if self.bias is None else y + self.bias[:, None, None]

    def kernel(self) -> Tensor:
        """The kernel (C, C, k, k) of L; in training the power iteration continues."""
        with full_precision(self.weight.device):
            skew = _skew(self.weight)
            unfoldings = _unfoldings(skew)
            if self.training:
                self._iterate()
            return skew * (self.correction / self._sigma(unfoldings))

    @property
    def lipschitz(self) -> float:
        """A bound of the operator norm in evaluation: 1 + t^(n + 1) / (n + 1)!, t = k c |T|_2 / sigma with the exact |T|_2."""
        with torch.no_grad():
            unfoldings = _unfoldings(_skew(self.weight))
            gram = unfoldings[1].double() @ unfoldings[1].double().mT
            norm, sigma = float(torch.linalg.eigvalsh(gram)[-1].sqrt()), float(self._sigma(unfoldings))
        powers = self.eval_terms + 1
        excess: float = (self.kernel_size * self.correction * norm / sigma) ** powers / math.factorial(powers)
        return 1 + excess

    def _sigma(self, unfoldings: Iterable[Tensor]) -> Tensor:
        """sigma; 1 if K = 0. The vectors are copied: another call may change them before the backward pass of this one."""
        vectors = (self.v_1.clone(), self.v_2.clone())
        norm = norm_of_image if self.training else torch.linalg.vector_norm
        sigma = torch.minimum(*(norm(unfolding @ v) for unfolding, v in zip(unfoldings, vectors, strict=True)))
        return torch.where(sigma > torch.finfo(sigma.dtype).tiny, sigma, 1)

    def _iterate(self) -> None:
        torch.ops.spectral_repro.iterate_unfoldings(self.v_1, self.v_2, self.calls, *_unfoldings(_skew(self.weight.detach())))

    def get_extra_state(self) -> Tensor:
        return self.calls.clone()

    def set_extra_state(self, state: Tensor) -> None:
        self.calls.copy_(state)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"bias={self.bias is not None}, train_terms={self.train_terms}, eval_terms={self.eval_terms}"
        )


def geometry(conv: nn.Conv2d, keep_weights: bool) -> dict[str, Any]:
    """The arguments of `SOC` that make a layer of the shape, device and dtype of a convolution.

    Raises:
        ValueError: if ``keep_weights``, and for what such a layer does not have.
    """
    if keep_weights:
        raise ValueError("a skew orthogonal convolution cannot take over weights: keep_weights=False starts with random ones")
    if conv.groups > 1 or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        raise ValueError("a skew orthogonal convolution has no groups, no dilation, and zeros as padding")
    return {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": None if conv.padding == "same" else conv.padding,
        "bias": conv.bias is not None,
        "device": conv.weight.device,
        "dtype": conv.weight.dtype,
    }


@torch.no_grad()
def iterate_unfoldings(v_1: Tensor, v_2: Tensor, calls: Tensor, square: Tensor, wide: Tensor) -> None:
    """Power iteration with both unfoldings, in place; a vector whose image is 0 is unchanged.

    ``calls`` is on the CPU, so reading it waits for no device.
    """
    iterations = 1 if calls.item() % RESTART else ITERATIONS
    for matrix, v in ((square, v_1), (wide, v_2)):
        for _ in range(iterations):
            image = matrix @ v @ matrix
            length = torch.linalg.vector_norm(image)
            v.copy_(torch.where(length > torch.finfo(v.dtype).tiny, image / length, v))
    calls.add_(1)


# an operator of its own, which torch.compile does not look into: the number of iterations depends on the counter
_library = torch.library.Library("spectral_repro", "DEF")
_library.define("iterate_unfoldings(Tensor(a!) v_1, Tensor(b!) v_2, Tensor(c!) calls, Tensor square, Tensor wide) -> ()")
for _key in ("CPU", "CUDA", "MPS", "XPU"):
    _library.impl("iterate_unfoldings", iterate_unfoldings, _key)
_library.impl("iterate_unfoldings", lambda v_1, v_2, calls, square, wide: None, "Meta")


def _skew(weight: Tensor) -> Tensor:
    return (weight - weight.transpose(0, 1).flip(2, 3)) / 2


def _unfoldings(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """R (C k, C k), rows (output, vertical), columns (input, horizontal), and T (C, C k^2)."""
    return kernel.transpose(1, 2).flatten(2).flatten(0, 1), kernel.flatten(1)
