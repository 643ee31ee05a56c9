"""SOTT (senderovich2022): skew orthogonal convolution on a few channels."""

from functools import partial

import torch

from spectral_repro.layers.soc import SOC
from spectral_repro.layers.tucker import Tucker
from spectral_repro.linalg.conv_symbol import Size


class SOTT(Tucker):
    """A `SOC` between two frames, used like `nn.Conv2d`: as far as the frames are orthonormal, all singular values are 1 or 0.

    Arguments, shapes and errors are those of `SOC` and `Tucker`; c = 0.7 for kernels of every size, as in the published code.
    """

    core: SOC

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        stride: Size = 1,
        padding: Size | None = None,
        bias: bool = True,
        rank: int | None = None,
        scale: float | None = None,
        train_terms: int = 5,
        eval_terms: int = 12,
    ):
        core = partial(SOC, train_terms=train_terms, eval_terms=eval_terms, correction=0.7)
        super().__init__(
            lambda inner, outer, bias: core(inner, outer, kernel_size, stride, padding, bias),
            in_channels,
            out_channels,
            bias,
            rank,
            scale,
        )

    @property
    def lipschitz(self) -> float:
        """A bound of the operator norm in evaluation: |K_1|_2 |K_3|_2 times that of the core."""
        bound = self.core.lipschitz
        for frame in self.frames:
            bound *= torch.linalg.matrix_norm(frame.detach().double(), 2).item()
        return bound
