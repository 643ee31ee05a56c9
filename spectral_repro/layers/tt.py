"""TT convolution (senderovich2022): a convolution whose kernel is a Tucker-2 decomposition."""

from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from spectral_repro.layers.tucker import Tucker, orthogonal_
from spectral_repro.linalg.conv_padding import PaddingMode
from spectral_repro.linalg.conv_symbol import Size
from spectral_repro.linalg.tucker import compose, tucker2

GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "padding_mode")


class Core(nn.Conv2d):
    """A convolution that starts with orthonormal rows, or columns, of the matrix (in_channels, out_channels k^2)."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        orthogonal_(self.weight.transpose(0, 1))


class TTConv2d(Tucker):
    """A convolution with the kernel w[o, i] = sum_ba K_3[b, o] core[b, a] K_1[i, a], used like `nn.Conv2d`.

    Three convolutions: 1 x 1 from in_channels to r_1 (K_1^T), the core with kernel size, stride, padding and dilation, and 1 x
    1 from r_2 to out_channels (K_3^T). They start orthogonal. While K_1 and K_3 are orthonormal (`orthogonal_penalty`), the
    singular values are those of the core, and zeros. If both ranks equal the numbers of channels, there is only the core.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, bias, padding_mode, device, dtype: those of
            `nn.Conv2d`. There are no groups.
        rank: r_1 = min(in_channels, rank), r_2 = min(out_channels, rank).
        scale: instead of the rank; r_1 = scale in_channels, r_2 = scale out_channels, rounded down to 1 at least.

    Attributes:
        relative_error: |W - w|_F / |W|_F for a layer that `from_module` made of a kernel W, a tensor of one number; else None.

    Raises:
        ValueError: unless exactly one of ``rank`` and ``scale`` is given, and in range.

    Example:
        >>> layer = TTConv2d(64, 64, 3, padding=1, rank=16)
        >>> layer.weight.shape, sum(parameter.numel() for parameter in layer.parameters())
        (torch.Size([64, 64, 3, 3]), 4416)
    """

    replaces = (nn.Conv2d,)
    core: nn.Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        *,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        rank: int | None = None,
        scale: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        core = partial(
            Core,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        super().__init__(core, in_channels, out_channels, bias, rank, scale, device, dtype)
        self.relative_error: Tensor | None = None

    @classmethod
    def from_module(
        cls, module: nn.Conv2d, keep_weights: bool = True, rank: int | None = None, scale: float | None = None
    ) -> Self:
        """The TT form of a convolution, by the truncated decomposition of its kernel (`tucker2`).

        Args:
            module: the convolution.
            keep_weights: False: use its shape, device and dtype only, with random weights.
            rank, scale: those of the class.

        Raises:
            ValueError: for a convolution with groups, and as the class.
        """
        if module.groups > 1:
            raise ValueError(f"groups={module.groups}: a TT convolution has no groups")
        layer = cls(
            module.in_channels,
            module.out_channels,
            **{name: getattr(module, name) for name in GEOMETRY},
            bias=module.bias is not None,
            rank=rank,
            scale=scale,
            device=module.weight.device,
            dtype=module.weight.dtype,
        )
        if keep_weights:
            layer._take(module)
        return layer

    @torch.no_grad()
    def to_module(self) -> nn.Conv2d:
        """A plain convolution with the same kernel and bias."""
        core = self.core
        conv = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            **{name: getattr(core, name) for name in GEOMETRY},
            bias=self.bias is not None,
            device=core.weight.device,
            dtype=core.weight.dtype,
        )
        conv.weight.copy_(self.weight)
        if conv.bias is not None and self.bias is not None:
            conv.bias.copy_(self.bias)
        return conv

    @property
    def weight(self) -> Tensor:
        """The kernel w (out_channels, in_channels, k, k), composed of the three parts."""
        if not self.framed:
            return self.core.weight
        return compose(self.expansion.matrix, self.core.weight, self.reduction.matrix.mT)

    @torch.no_grad()
    def absorb(self) -> None:
        """Makes the frames orthonormal without changing the kernel: K_1 = Q_1 R_1, K_3^T = Q_3 R_3, both R into the core."""
        if self.framed:
            (first, inner), (last, outer) = (torch.linalg.qr(frame.mT) for frame in self.frames)
            self.core.weight.copy_(compose(outer, self.core.weight, inner))
            self.reduction.matrix.copy_(first.mT)
            self.expansion.matrix.copy_(last)

    @torch.no_grad()
    def _take(self, conv: nn.Conv2d) -> None:
        """Copies the kernel of a convolution, as closely as the ranks allow, and the bias."""
        if self.framed:
            left, core, right, self.relative_error = tucker2(conv.weight, (self.core.in_channels, self.core.out_channels))
            self.expansion.matrix.copy_(left)
            self.core.weight.copy_(core)
            self.reduction.matrix.copy_(right.mT)
        else:
            self.core.weight.copy_(conv.weight)
            self.relative_error = conv.weight.new_zeros(())
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias)
