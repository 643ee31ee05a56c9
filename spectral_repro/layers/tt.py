"""TT convolution (senderovich2022): a convolution whose kernel is a Tucker-2 decomposition."""

from functools import partial

import torch
from torch import Tensor, nn

from spectral_repro.layers.tucker import Tucker
from spectral_repro.linalg.conv_symbol import Size


class TTConv2d(Tucker):
    """w[o, i] = sum_ab K_3[b, o] core[b, a] K_1[i, a], used like `nn.Conv2d`; see `Tucker`.

    The core is an `nn.Conv2d` with the stride and the padding. Frames and core start orthogonal, the core as the matrix
    (r_1, r_2 k^2).

    Raises:
        ValueError: as `Tucker`.
    """

    core: nn.Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        bias: bool = True,
        rank: int | None = None,
        scale: float | None = None,
    ):
        core = partial(nn.Conv2d, kernel_size=kernel_size, stride=stride, padding=padding)
        super().__init__(lambda inner, outer, bias: core(inner, outer, bias=bias), in_channels, out_channels, bias, rank, scale)
        weight = self.core.weight.data
        weight.copy_(nn.init.orthogonal_(weight.transpose(0, 1).contiguous()).transpose(0, 1))

    @property
    def kernel(self) -> Tensor:
        """w (out_channels, in_channels, k, k)."""
        return self._between(self.expansion.matrix, self.reduction.matrix) if self.framed else self.core.weight

    @torch.no_grad()
    def absorb(self) -> None:
        """Makes the frames orthonormal without changing the kernel: K_1 = Q_1 R_1, K_3^T = Q_3 R_3, both R into the core."""
        if self.framed:
            (first, inner), (last, outer) = (torch.linalg.qr(frame.mT) for frame in self.frames)
            self.core.weight.copy_(self._between(outer, inner.mT))
            self.reduction.matrix.copy_(first.mT)
            self.expansion.matrix.copy_(last)

    @torch.no_grad()
    def to_conv2d(self) -> nn.Conv2d:
        """A convolution of its own with the same kernel and bias."""
        core, bias = self.core, self[-1].bias
        conv = nn.Conv2d(
            self.in_channels, self.out_channels, core.kernel_size, core.stride, core.padding, bias=bias is not None
        )
        conv.to(core.weight).weight.copy_(self.kernel)
        if bias is not None:
            conv.bias.copy_(bias)
        return conv.train(self.training)

    def _between(self, left: Tensor, right: Tensor) -> Tensor:
        """The core between two matrices over its output and its input channels."""
        return torch.einsum("ob,bahw,ai->oihw", left, self.core.weight, right)
