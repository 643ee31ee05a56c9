"""Skew orthogonal convolution (Singla and Feizi 2021)."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize, pad, pixel_unshuffle

from spectral_repro.linalg.conv_symbol import Size, pair

ITERATIONS, RESTART = 50, 200


class SOC(nn.Module):
    """y = P exp(L) E x + bias, all singular values 1, for L is a skew-symmetric convolution. Used like `nn.Conv2d`.

    E turns stride x stride pixels into channels and adds channels of zeros up to C = max(stride^2 in_channels, out_channels), P
    drops those beyond ``out_channels``. L has the kernel c K / sigma, K = (W - W^T) / 2, W^T being W with input and output
    channels exchanged and both directions mirrored; with zero padding of half the kernel it is a skew-symmetric matrix.

    exp is summed to the power n. That moves singular values away from 1 by t^(n + 1) / (n + 1)! at most, t = |L|: with t = 2.1,
    which the published c stands for, 0.12 in training (n = 5) and 2.5e-6 in evaluation (n = 12).

    sigma = min(|R|_2, |T|_2), R the (C k, C k) and T the (C, C k^2) unfolding of K, whose k-fold bounds |K| (Singla and Feizi
    2021, "Fantastic Four"; the other two unfoldings of a skew kernel are transposes of these). The norms are |R v| and |T v|, v
    from a power iteration that goes on from the last call: 50 iterations in the first training call and in every 200th, else 1.
    In the gradient of sigma both v are fixed.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias: as of `nn.Conv2d`; the kernel square and odd, the padding
            half of it, the stride the same in both directions.
        train_terms, eval_terms: n in training and in evaluation.
        correction: c; None: 0.7, and 1 for 1 x 1 kernels, as published.

    Input (N, in_channels, H, W), H and W multiples of the stride; output (N, out_channels, H / stride, W / stride).

    Raises:
        ValueError: for another geometry, and for an input of another shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        stride: Size = 1,
        padding: Size | None = None,
        bias: bool = True,
        train_terms: int = 5,
        eval_terms: int = 12,
        correction: float | None = None,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        (self.kernel_size, width), (self.stride, across) = pair("kernel_size", kernel_size), pair("stride", stride)
        half = self.kernel_size // 2
        square = self.kernel_size == width and self.stride == across
        if not square or self.kernel_size % 2 == 0 or padding not in (None, half, (half, half)):
            raise ValueError(
                "a skew-symmetric convolution has an odd square kernel, half of it as padding, and the same stride in both "
                f"directions; not {kernel_size=}, {padding=}, {stride=}"
            )
        self.train_terms, self.eval_terms = train_terms, eval_terms
        self.correction = correction or (0.7 if self.kernel_size > 1 else 1.0)
        self.channels = max(self.stride**2 * in_channels, out_channels)
        self.weight = nn.Parameter(torch.empty(self.channels, self.channels, self.kernel_size, self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.register_buffer("v_1", torch.randn(self.channels * self.kernel_size))
        self.register_buffer("v_2", torch.randn(self.channels * self.kernel_size**2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.channels**-0.5)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(self.out_channels**-0.5), self.out_channels**-0.5)
        self.calls = 0
        self._iterate(_unfoldings(_skew(self.weight.detach())), ITERATIONS)

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
        """(C, C, k, k), that of L; in training the power iteration goes on."""
        with torch.autocast(self.weight.device.type, enabled=False):
            skew = _skew(self.weight)
            unfoldings = _unfoldings(skew)
            if self.training:
                # the decorator would import the compiler, which takes as long as all of torch, for whoever does not compile
                advance = torch.compiler.disable(self._advance) if torch.compiler.is_compiling() else self._advance
                advance(unfoldings)
            return skew * (self.correction / self._sigma(unfoldings))

    @property
    def lipschitz(self) -> float:
        """A bound of the operator norm in evaluation: 1 + t^(n + 1) / (n + 1)!, t = k c |T|_2 / sigma with the exact |T|_2."""
        with torch.no_grad():
            unfoldings = _unfoldings(_skew(self.weight))
            gram = unfoldings[1].double() @ unfoldings[1].double().mT
            norm, sigma = torch.linalg.eigvalsh(gram)[-1].sqrt().item(), self._sigma(unfoldings).item()
        powers = self.eval_terms + 1
        return 1 + (self.kernel_size * self.correction * norm / sigma) ** powers / math.factorial(powers)

    def _sigma(self, unfoldings: Iterable[Tensor]) -> Tensor:
        """1e-12 where K = 0. The vectors are copied: another call may change them before the gradient of this one is taken."""
        vectors = (self.v_1.clone(), self.v_2.clone())
        norms = (torch.linalg.vector_norm(unfolding @ v) for unfolding, v in zip(unfoldings, vectors, strict=True))
        return torch.minimum(*norms) + 1e-12

    def _advance(self, unfoldings: Iterable[Tensor]) -> None:
        self._iterate(unfoldings, 1 if self.calls % RESTART else ITERATIONS)
        self.calls += 1

    @torch.no_grad()
    def _iterate(self, unfoldings: Iterable[Tensor], iterations: int) -> None:
        for unfolding, v in zip(unfoldings, (self.v_1, self.v_2), strict=True):
            for _ in range(iterations):
                v.copy_(normalize(unfolding @ v @ unfolding, dim=0))

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        self.calls = int(state)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"bias={self.bias is not None}, train_terms={self.train_terms}, eval_terms={self.eval_terms}"
        )


def _skew(weight: Tensor) -> Tensor:
    return (weight - weight.transpose(0, 1).flip(2, 3)) / 2


def _unfoldings(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """R (C k, C k), rows (output, vertical), columns (input, horizontal), and T (C, C k^2)."""
    return kernel.transpose(1, 2).flatten(2).flatten(0, 1), kernel.flatten(1)
