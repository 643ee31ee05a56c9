"""Mean and covariance of the channels of images, and an affine map of the channels: what a covariance layer computes.

Images are (N, C, L), float32 or float64: N images, C channels, L positions. Channels are split into G groups of d = C / G
neighbours, and a tensor (G, d, d) stands for a block-diagonal C x C matrix.

A training step calls `moments` and then `transform`. Both have a backward pass of their own that processes the images tile by
tile (`Tiles`). Second derivatives and `torch.func` use `plain_moments` and `affine`, which are standard operations.
"""

from typing import Any

import torch
from torch import Tensor

from spectral_repro.layers.tiles import Tiles, dense, diagonal_blocks, in_layout_of, widen
from spectral_repro.linalg.autograd import in_full_precision

SAMPLE = 1024  # positions whose mean is subtracted first, rounded to whole images, at least one


def moments(x: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance by groups of channels, and the images again.

    The mean of the first images is subtracted before the products are summed. This keeps float32 accurate however far the
    images are from zero.

    Args:
        x: (N, C, L).
        group_size: d, a divisor of C.

    Returns:
        The images, to be used by one `transform` only, because their gradient is changed in place; the mean (C,), float64; the
        covariance (G, d, d), divided by N L. All are differentiable.
    """
    if torch._C._are_functorch_transforms_active():
        return x, *plain_moments(x, group_size)
    results: tuple[Tensor, Tensor, Tensor] = _Moments.apply(x, group_size)
    return results


def transform(x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """y = matrix (x - shift) + bias at every position, differentiable with respect to all but the shift.

    Args:
        x: the images that `moments` returned.
        shift: (C,).
        matrix: (G, d, d).
        bias: (C,).
    """
    if torch._C._are_functorch_transforms_active():
        return affine(x, shift, matrix, bias)
    y: Tensor = _Transform.apply(x, shift, matrix, bias)
    return y


def plain_moments(x: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """The mean and the covariance of `moments` in standard operations."""
    mean = x.mean((0, 2))
    centred = x - mean[:, None]
    return mean.double(), _outer(centred, centred, group_size) / (x.shape[0] * x.shape[2])


def affine(x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """The result of `transform` in standard operations."""
    return in_layout_of(x, _multiply(matrix, x - shift[:, None])) + bias[:, None]


def affine_without_gradient(x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """The result of `transform`, tile by tile."""
    x = dense(x)
    y = torch.empty_like(x)
    _affine_into(y, x, shift, matrix, bias, add=False)
    return y


class _Moments(torch.autograd.Function):
    @staticmethod
    @in_full_precision
    def forward(ctx: Any, x: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
        x = dense(x)
        shift = x[: max(1, SAMPLE // x[0, 0].numel())].mean((0, 2))
        square, total = _sums_of_products(x, shift, group_size)
        count = x.shape[0] * x.shape[2]
        mean = total / count
        blocks = mean.view(-1, group_size, 1)
        ctx.save_for_backward(x, shift, mean)
        ctx.group_size = group_size
        return x, shift.double() + mean, square / count - blocks @ blocks.mT

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad_x: Tensor, grad_mean: Tensor, grad_covariance: Tensor) -> tuple[Tensor, None]:
        x, shift, mean = ctx.saved_tensors
        count = x.shape[0] * x.shape[2]
        grad_mean = grad_mean.to(x.dtype) / count
        factor = (grad_covariance + grad_covariance.mT) / count  # of x - mean in the gradient
        if torch.is_grad_enabled():  # for second derivatives
            return grad_x + grad_mean[:, None] + _multiply(factor, x - x.mean((0, 2))[:, None]), None
        constant = grad_mean - (factor @ mean.view(-1, ctx.group_size, 1)).flatten()
        grad_x = in_layout_of(x, grad_x)
        _affine_into(grad_x, x, shift, factor, constant, add=True)
        return grad_x, None


class _Transform(torch.autograd.Function):
    @staticmethod
    @in_full_precision
    def forward(ctx: Any, x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        x = dense(x)
        ctx.save_for_backward(x, shift, matrix)
        return affine_without_gradient(x, shift, matrix, bias)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        x, shift, matrix = ctx.saved_tensors
        needs_x, needs_matrix = ctx.needs_input_grad[0], ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        if torch.is_grad_enabled():  # for second derivatives
            grad_matrix = _outer(grad_output, x - shift[:, None], matrix.shape[-1]) if needs_matrix else None
            return _multiply(matrix.mT, grad_output) if needs_x else None, None, grad_matrix, grad_output.sum((0, 2))
        grad_x, grad_matrix, grad_bias = _backward_products(grad_output, x, shift, matrix, needs_x, needs_matrix)
        return grad_x, None, grad_matrix, grad_bias


def _multiply(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix x at every position."""
    return torch.einsum("gij,ngjl->ngil", matrix, x.unflatten(1, matrix.shape[:2])).flatten(1, 2)


def _outer(y: Tensor, x: Tensor, group_size: int) -> Tensor:
    """The sum of y x^T over all positions, by groups (G, d, d)."""
    y, x = (images.unflatten(1, (-1, group_size)) for images in (y, x))
    return torch.einsum("ngil,ngjl->gij", y, x)


def _sums_of_products(x: Tensor, shift: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """The sums over all positions of c c^T (G, d, d) and of c (C,), for c = x - shift."""
    tiles = Tiles(x, group_size)
    square, total = x.new_zeros(tiles.blocks, tiles.width, tiles.width), torch.zeros_like(shift)
    for (centred,) in tiles.centred(x, shift):
        square += tiles.summed(_product(centred, centred.mT))
        total += tiles.channel_sums(centred)
    return diagonal_blocks(square, group_size), total


def _backward_products(
    grad_output: Tensor, x: Tensor, shift: Tensor, matrix: Tensor, needs_x: bool, needs_matrix: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """matrix^T g, the sum of g (x - shift)^T over all positions, and the sum of g; None for those not needed."""
    tiles, grad_output = Tiles(x, matrix.shape[-1]), in_layout_of(x, grad_output)
    results = [torch.empty_like(x)] if needs_x else []
    wide = tiles.per_block(widen(matrix.mT, tiles.width)) if needs_x else None
    outer, total = x.new_zeros(tiles.blocks, tiles.width, tiles.width), torch.zeros_like(shift)
    for centred, grad, *out in tiles.centred(x, shift, grad_output, *results):
        if needs_matrix:
            total += tiles.channel_sums(grad)  # first: this brings the tile into the cache in order
            outer += tiles.summed(_product(grad, centred.mT))
        if wide is not None:
            _write_product(out[0], wide, grad)
    sums = (diagonal_blocks(outer, matrix.shape[-1]), total) if needs_matrix else (None, None)
    return results[0] if needs_x else None, *sums


def _affine_into(result: Tensor, x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor, add: bool) -> None:
    """Writes matrix (x - shift) + bias into the result, or adds it to what is there."""
    tiles = Tiles(x, matrix.shape[-1])
    wide, bias = tiles.per_block(widen(matrix, tiles.width)), tiles.per_block(bias)
    for centred, out in tiles.centred(x, shift, result):
        (out.add_ if add else out.copy_)(bias[: len(out)])
        _add_product(out, wide, centred)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b, of one matrix each as `torch.mm`, which is faster than a batch of one."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def _write_product(out: Tensor, wide: Tensor, tile: Tensor) -> None:
    """out <- wide tile. On a CPU it is faster to fill a tile of new memory first, in order, and to add the product to it."""
    on_cpu = out.device.type == "cpu"
    _add_product(out.zero_() if on_cpu else out, wide, tile, beta=int(on_cpu))


def _add_product(out: Tensor, wide: Tensor, tile: Tensor, beta: int = 1) -> None:
    """out <- beta out + wide tile, for the blocks of a block-diagonal matrix."""
    if len(tile) == 1:
        out[0].addmm_(wide[0], tile[0], beta=beta)
    else:
        out.baddbmm_(wide[: len(tile)], tile, beta=beta)
