"""SOTT (senderovich2022): skew orthogonal convolution on a few channels."""

from functools import partial
from typing import Self

import torch
from torch import nn

from spectral_repro.layers.soc import SOC, geometry
from spectral_repro.layers.tucker import Tucker
from spectral_repro.linalg.conv_symbol import Size


class SOTT(Tucker):
    """A `SOC` between two 1 x 1 convolutions, the frames. While these are orthonormal, all singular values are 1 or 0.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias, train_terms, eval_terms, device, dtype: those of `SOC`.
        rank, scale: channels between the frames, as in `TTConv2d`.

    c = 0.7 for kernels of every size, as in the published code. Shapes, errors and second derivatives are those of `SOC` and
    `TTConv2d`.

    Example:
        >>> SOTT(8, 16, 3, rank=6)(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 16, 5, 5])
    """

    replaces = (nn.Conv2d,)
    core: SOC

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        stride: Size = 1,
        padding: Size | None = None,
        *,
        bias: bool = True,
        rank: int | None = None,
        scale: float | None = None,
        train_terms: int = 5,
        eval_terms: int = 12,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        core = partial(
            SOC,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            train_terms=train_terms,
            eval_terms=eval_terms,
            correction=0.7,
            device=device,
            dtype=dtype,
        )
        super().__init__(core, in_channels, out_channels, bias, rank, scale, device, dtype)

    @classmethod
    def from_module(
        cls,
        module: nn.Conv2d,
        keep_weights: bool = True,
        rank: int | None = None,
        scale: float | None = None,
        train_terms: int = 5,
        eval_terms: int = 12,
    ) -> Self:
        """A layer of the shape, device and dtype of a convolution, with random weights.

        Raises:
            ValueError: if ``keep_weights``, for another geometry, and as the class.
        """
        arguments = geometry(module, keep_weights)
        return cls(**arguments, rank=rank, scale=scale, train_terms=train_terms, eval_terms=eval_terms)

    def to_module(self) -> nn.Module:
        """
        Raises:
            ValueError: always, as `SOC.to_module`.
        """
        return self.core.to_module()

    @property
    def lipschitz(self) -> float:
        """A bound of the operator norm in evaluation: |K_1|_2 |K_3|_2 times that of the core."""
        bound = self.core.lipschitz
        for frame in self.frames:
            bound *= torch.linalg.matrix_norm(frame.detach().double(), 2).item()
        return bound
