"""The two passes over the images that every covariance layer makes, in the memory layout that the images come in.

Channels are split into G groups of d = ``group_size`` neighbours; a matrix of shape (G, d, d) is a block-diagonal C x C one.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autocast import in_full_precision


def centre(x: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shifted images, their mean and their covariance by groups of channels.

    The shift is the mean of the first image: subtracting it first keeps float32 accurate however far the images are from zero.

    Args:
        x: (N, C, H, W), any floating dtype; half precision is computed in float32.
        group_size: d, a divisor of C.

    Returns:
        x - shift (N, C, H, W), the shift (C,), the mean of the shifted images (C,) and the covariance (G, d, d) divided by
        N H W. All but the shift carry gradient.
    """
    return _Centre.apply(x, group_size)


def mix(x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """y = matrix x + bias at every position: x (N, C, H, W), matrix (G, d, d), bias (C,), all of one dtype."""
    return _Mix.apply(x, matrix, bias)


class _Centre(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, x, group_size):
        shift = x[0].to(torch.promote_types(x.dtype, torch.float32)).mean((-2, -1))
        shifted = x - shift[:, None, None]
        mean = shifted.mean((0, 2, 3))
        blocks = mean.view(-1, group_size, 1)
        covariance = _outer(shifted, shifted, group_size) / (x.numel() // x.shape[1]) - blocks @ blocks.mT
        ctx.save_for_backward(shifted, mean)
        ctx.group_size, ctx.input_dtype = group_size, x.dtype
        ctx.mark_non_differentiable(shift)
        return shifted, shift, mean, covariance

    @in_full_precision
    @once_differentiable
    def backward(ctx, shifted_gradient, _, mean_gradient, covariance_gradient):
        shifted, mean = ctx.saved_tensors
        count = shifted.numel() // shifted.shape[1]
        slope = (covariance_gradient + covariance_gradient.mT) / count
        constant = mean_gradient / count - (slope @ mean.view(-1, ctx.group_size, 1)).flatten()
        gradient = _apply(slope, shifted, onto=shifted_gradient).add_(constant[:, None, None])
        return gradient.to(ctx.input_dtype), None


class _Mix(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, x, matrix, bias):
        ctx.save_for_backward(x, matrix)
        return _apply(matrix, x).add_(bias[:, None, None])

    @in_full_precision
    @once_differentiable
    def backward(ctx, gradient):
        x, matrix = ctx.saved_tensors
        return _apply(matrix.mT, gradient), _outer(gradient, x, matrix.shape[-1]), gradient.sum((0, 2, 3))


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _outer(a: Tensor, b: Tensor, group_size: int) -> Tensor:
    """The blocks (G, d, d) of sum over positions of a b^T."""
    if _channels_last(a) and _channels_last(b):
        # one tall product over all channels beats G strided narrow ones, although only its diagonal blocks are used
        return _blocks(_rows(a).mT @ _rows(b), group_size).permute(2, 0, 1)
    return (_grouped(a, group_size) @ _grouped(b, group_size).mT).sum(0)


def _apply(matrix: Tensor, x: Tensor, onto: Tensor | None = None) -> Tensor:
    """matrix x, plus ``onto`` where given, in the layout of x."""
    if not _channels_last(x):
        product = (matrix @ _grouped(x, matrix.shape[-1])).view(x.shape)
        return product if onto is None else product.add_(onto)
    batch, _, height, width = x.shape
    rows, transposed = _rows(x), x.new_zeros(x.shape[1], x.shape[1])
    _blocks(transposed, matrix.shape[-1]).copy_(matrix.permute(2, 1, 0))
    product = rows @ transposed if onto is None else torch.addmm(_rows(onto), rows, transposed)
    return product.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _blocks(full: Tensor, group_size: int) -> Tensor:
    """The diagonal blocks of a (C, C) matrix, a view (d, d, G)."""
    return full.view(-1, group_size, full.shape[0] // group_size, group_size).diagonal(dim1=0, dim2=2)


def _rows(x: Tensor) -> Tensor:
    """(N H W, C), a view of channels_last images."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _grouped(x: Tensor, group_size: int) -> Tensor:
    """(N, G, d, H W), a view of contiguous images."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels // group_size, group_size, height * width)
