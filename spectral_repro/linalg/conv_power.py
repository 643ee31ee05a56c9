"""Power iteration with a convolution as torch applies it, its zero padding included (Gouk et al. 2021)."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.conv_symbol import Size, pair


@torch.no_grad()
def conv_power_iteration(
    weight: Tensor,
    start: Tensor,
    stride: Size = 1,
    padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    iterations: int = 2,
) -> tuple[Tensor, Tensor]:
    """The largest singular value of A: x -> conv2d(x, weight), from below, and the vector that it was found with:

        y = A x / |A x|,   x <- A^T y / |A^T y|,   ``iterations`` times; |A^T y| in the end.

    Args:
        weight: (C_out, C_in / groups, K_1, K_2).
        start: x (1, C_in, H, W), random at first; what the last call gave, where the weight has changed little since.
        stride, padding, groups, dilation: those of `torch.nn.functional.conv2d`.

    Returns:
        A tensor of one number, and x with |x| = 1. The device is not waited for.

    Raises:
        ValueError: unless iterations >= 1, or for a kernel that is larger than the padded map.
    """
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: must be a whole number >= 1")
    strides, pads, spacings = pair("stride", stride), pair("padding", padding, least=0), pair("dilation", dilation)
    spare = [n + 2 * p - d * (k - 1) - 1 for n, p, d, k in zip(start.shape[2:], pads, spacings, weight.shape[2:], strict=True)]
    if min(spare) < 0:
        kernel, size = (" x ".join(map(str, x.shape[2:])) for x in (weight, start))
        raise ValueError(f"padding={padding}: too little for a kernel of {kernel} on a map of {size}")
    beyond = [free % s for free, s in zip(spare, strides, strict=True)]
    x = start
    with full_precision(x.device):
        for _ in range(iterations):
            y, _ = _normalised(conv2d(x, weight, None, strides, pads, spacings, groups))
            x, largest = _normalised(conv_transpose2d(y, weight, None, strides, pads, beyond, groups, spacings))
    return largest, x


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x|, or 0, and |x|."""
    length = torch.linalg.vector_norm(x)
    return x / length.clamp_min(torch.finfo(x.dtype).tiny), length
