"""Power iteration with a convolution as `torch.nn.Conv2d` applies it, with any padding (Gouk et al. 2021)."""

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.conv_padding import PaddingMode, pad_widths, padded_conv2d
from spectral_repro.linalg.conv_symbol import Size, pair


@torch.no_grad()
def conv_power_iteration(
    weight: Tensor,
    start: Tensor,
    stride: Size = 1,
    padding: Size | str = 0,
    groups: int = 1,
    dilation: Size = 1,
    padding_mode: PaddingMode = "zeros",
    iterations: int = 2,
) -> tuple[Tensor, Tensor]:
    """A lower bound of the largest singular value of A, x -> `padded_conv2d` of x, and its vector, by power iteration:

        y = A x / |A x|,   x <- A^T y / |A^T y|,   ``iterations`` times; the value is the last |A^T y|.

    A^T is computed as a vector-Jacobian product, so A is what the layer computes, with padding of any mode.

    Args:
        weight: (C_out, C_in / groups, K_1, K_2).
        start: x (1, C_in, H, W): random in the first call, then the vector of the last call if the weight changes slowly.
        stride, padding, groups, dilation, padding_mode: those of `torch.nn.Conv2d`.
        iterations: each takes two convolutions.

    Returns:
        The value, a scalar tensor, and x with |x| = 1. If A x = 0, the value is 0 and x is unchanged. Does not synchronise with
        the device.

    Raises:
        ValueError: for an argument that is not a whole number in range, another number of dimensions, and a kernel larger than
            the padded map.

    Example:
        >>> weight, x = torch.nn.init.dirac_(torch.empty(4, 4, 3, 3)), torch.randn(1, 4, 8, 8)
        >>> conv_power_iteration(weight, x, padding=1, padding_mode="reflect")[0]
        tensor(1.)
    """
    check_count("iterations", iterations)
    check_count("groups", groups)
    pair("stride", stride)
    if weight.dim() != 4 or start.dim() != 4:
        raise ValueError(
            f"start: must be (1, C_in, H, W) for a weight (C_out, C_in / groups, K_1, K_2), got {tuple(start.shape)}"
        )
    spacings, pads = pair("dilation", dilation), pad_widths(padding, weight.shape[2:], dilation)
    for n, k, d, before, after in zip(start.shape[2:], weight.shape[2:], spacings, pads[2::-2], pads[3::-2], strict=True):
        if n + before + after < d * (k - 1) + 1:
            kernel, size = (" x ".join(map(str, x.shape[2:])) for x in (weight, start))
            raise ValueError(f"padding={padding}: too little for a kernel of {kernel} on a map of {size}")
    x = start
    with full_precision(x.device):
        for _ in range(iterations):
            y, transpose = torch.func.vjp(
                lambda x: padded_conv2d(x, weight, stride, padding, groups, dilation, padding_mode), x
            )[:2]
            image = transpose(y / torch.linalg.vector_norm(y).clamp_min(torch.finfo(y.dtype).tiny))[0]
            largest = torch.linalg.vector_norm(image)
            x = torch.where(largest > torch.finfo(x.dtype).tiny, image / largest, x)
    return largest, x
