"""Padding of convolutions, and its effect on their norm."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from spectral_repro.linalg.conv_symbol import Size, pair

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def padded_conv2d(
    x: Tensor,
    weight: Tensor,
    stride: Size = 1,
    padding: Size | str = 0,
    groups: int = 1,
    dilation: Size = 1,
    padding_mode: PaddingMode = "zeros",
) -> Tensor:
    """The convolution that `torch.nn.Conv2d` with these arguments computes, without bias.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in / groups, K_1, K_2).
        stride, padding, groups, dilation, padding_mode: those of `torch.nn.Conv2d`.

    Returns:
        (N, C_out, H', W').
    """
    if padding_mode == "zeros":
        return conv2d(x, weight, None, stride, padding, dilation, groups)
    left, right, above, below = pad_widths(padding, weight.shape[2:], dilation)
    return conv2d(pad(x, (left, right, above, below), MODES[padding_mode]), weight, None, stride, 0, dilation, groups)


def pad_widths(padding: Size | str, kernel_size: Sequence[int], dilation: Size) -> list[int]:
    """The argument of `torch.nn.functional.pad`: pixels left, right, above and below.

    Raises:
        ValueError: unless the padding is one or two whole numbers >= 0, "same" or "valid".
    """
    if padding in ("same", "valid"):
        spare = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel_size, pair("dilation", dilation), strict=True)]
        return [width for total in reversed(spare) for width in (total // 2, total - total // 2)]
    return [width for width in reversed(pair("padding", padding, least=0)) for _ in range(2)]


def circular_operator(
    input_size: Size,
    kernel_size: Sequence[int],
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    padding_mode: PaddingMode = "zeros",
) -> tuple[tuple[int, int], float]:
    """A circular convolution whose norm, times a factor, bounds the norm of a convolution with its padding.

    With circular padding that does not enlarge the map, the convolution is the circular one on the same map, or a part of it.
    With zero padding it is a part of the circular one on a map with room for the padding. Padding that repeats pixels is an
    operator P, followed by a part of the circular convolution on the padded map: the norm is at most |P| times larger, and
    |P|^2 is the largest number of times that P repeats a pixel.

    Args:
        input_size, kernel_size, stride, padding, dilation, padding_mode: those of the convolution.

    Returns:
        The size of the circular map, a multiple of the stride; and the factor, 1 unless pixels are repeated.

    Example:
        >>> circular_operator(8, (3, 3), padding=1, padding_mode="circular")
        ((8, 8), 1.0)
        >>> circular_operator(8, (3, 3), padding=1, padding_mode="reflect")
        ((10, 10), 2.0)
    """
    left, right, above, below = pad_widths(padding, kernel_size, dilation)
    sizes, strides, spacings = pair("input_size", input_size), pair("stride", stride), pair("dilation", dilation)
    extents = [d * (k - 1) + 1 for k, d in zip(kernel_size, spacings, strict=True)]
    dimensions = list(zip(sizes, strides, extents, ((above, below), (left, right)), strict=True))
    if padding_mode == "zeros":
        needed, factor = [n + max(pads) for n, _, _, pads in dimensions], 1.0
    elif padding_mode == "circular" and all(sum(pads) < extent and n % s == 0 for n, s, extent, pads in dimensions):
        needed, factor = list(sizes), 1.0
    else:
        needed = [n + sum(pads) for n, _, _, pads in dimensions]
        factor = math.prod(_repetitions(n, *pads, padding_mode) for n, _, _, pads in dimensions) ** 0.5
    rows, columns = (-(-n // s) * s for n, s in zip(needed, strides, strict=True))
    return (rows, columns), factor


def _repetitions(length: int, before: int, after: int, padding_mode: PaddingMode) -> int:
    """The largest number of times that a pixel is repeated in one dimension."""
    positions = torch.arange(length, dtype=torch.float32, device="cpu")[None, None]
    return int(pad(positions, (before, after), MODES[padding_mode]).long().flatten().bincount().max())
