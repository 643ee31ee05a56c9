"""The passes over the images that every covariance layer makes, in the memory layout that the images come in.

Channels are split into G groups of d = ``group_size`` neighbours; a matrix of shape (G, d, d) is a block-diagonal C x C one.
All images are float32 or float64. On a processor a pass takes the positions in parts, so that what is shifted is a small tensor
that stays in its caches; elsewhere all at once. Whatever happens to means and d x d matrices in between, such as a
sum over processes, is for autograd.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectral_repro.linalg.autograd import in_full_precision

CHUNK = 2**19  # numbers that are shifted and multiplied at a time: the fastest power of two
SAMPLE = 1024  # positions whose mean is the shift: as many whole images, at least one
WIDTH = {"cpu": 32, "cuda": 128}  # channels that a product takes together: narrower ones waste more time than zeros cost


def moments(x: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance by groups of channels, and the images again.

    Positions are shifted by the mean of the first images on their way into the products: that keeps float32 accurate however
    far the images are from zero.

    Args:
        x: (N, C, H, W).
        group_size: d, a divisor of C.

    Returns:
        x for `mix`, the mean (C,) in float64 and the covariance (G, d, d) divided by N H W, each with its gradient. That of x
        is changed in place by this function's backward pass: nothing but one `mix` may take it.
    """
    return _Moments.apply(x, group_size)


def mix(x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """y = matrix (x - shift) + bias at every position: matrix (G, d, d), shift and bias (C,), all of the dtype of x.

    The shift, without gradient, is what keeps the difference accurate where images are far from zero.
    """
    return _Mix.apply(x, shift, matrix, bias)


class _Moments(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, x, group_size):
        x = _dense(x)
        shift = x[: max(1, SAMPLE // x[0, 0].numel())].mean((0, 2, 3))
        square, total = _products(x, shift, group_size)
        count = x.numel() // x.shape[1]
        mean = total / count
        blocks = mean.view(-1, group_size, 1)
        ctx.save_for_backward(x, shift, mean)
        ctx.group_size = group_size
        return x, shift.double() + mean, square / count - blocks @ blocks.mT

    @in_full_precision
    @once_differentiable
    def backward(ctx, gradient, mean_gradient, covariance_gradient):
        x, shift, mean = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        slope = (covariance_gradient + covariance_gradient.mT) / count
        constant = mean_gradient.to(x.dtype) / count - (slope @ mean.view(-1, ctx.group_size, 1)).flatten()
        gradient = _laid_out_as(x, gradient)
        _add_product(gradient, x, shift, slope, constant)
        return gradient, None


class _Mix(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, x, shift, matrix, bias):
        x = _dense(x)
        ctx.save_for_backward(x, shift, matrix)
        return _product(x, shift, matrix, bias)

    @in_full_precision
    @once_differentiable
    def backward(ctx, gradient):
        x, shift, matrix = ctx.saved_tensors
        gradient_of_x, outer, total = _transposed(gradient, x, shift, matrix)
        return gradient_of_x, None, outer, total


class _Parts:
    """Images (N, C, H, W) as blocks of channels (blocks, width, positions), some at a time.

    In channels_last blocks are those of all images and a part is a stretch of positions; else it is some images.
    """

    def __init__(self, x: Tensor, group_size: int):
        self.by_positions = _channels_last(x)
        self.width = _width(x, group_size) if self.by_positions else group_size
        self.blocks = x.shape[1] // self.width
        self.axis, unit, length = (2, 1, x[:, 0].numel()) if self.by_positions else (0, self.blocks, len(x))
        most = CHUNK * length // max(1, x.numel()) if x.device.type == "cpu" else length
        self.step = unit * max(1, min(most, length))

    def centred(self, x: Tensor, shift: Tensor, *images: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """x - shift, which lies in one place for all parts, and other images at the same positions, in turn."""
        rows, shift = self._rows(x), shift.view(1, -1) if self.by_positions else self.repeated(shift)
        place = torch.empty_like(rows[: self.step])
        views = [self._as_blocks(self._rows(y)).split(self.step, self.axis) for y in images]
        for part, *others in zip(rows.split(self.step), *views, strict=True):
            centred = torch.sub(part, shift[: len(part)], out=place[: len(part)])
            yield self._as_blocks(centred), *others

    def _rows(self, x: Tensor) -> Tensor:
        """Images as they lie in memory, cut along the first axis: (positions, C), or (images * blocks, width, positions)."""
        if self.by_positions:
            return x.permute(0, 2, 3, 1).view(-1, x.shape[1])
        return x.view(len(x) * self.blocks, self.width, x.shape[2:].numel())

    def _as_blocks(self, rows: Tensor) -> Tensor:
        return rows.view(-1, self.blocks, self.width).permute(1, 2, 0) if self.by_positions else rows

    def repeated(self, values: Tensor) -> Tensor:
        """Numbers of channels (C,), as (blocks, width, 1), or matrices (blocks, width, width), for every image of a part."""
        values = values.view(self.blocks, self.width, -1)
        return values if self.by_positions else values.repeat(self.step // self.blocks, 1, 1)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the images of a part."""
        return values if self.by_positions else values.unflatten(0, (-1, self.blocks)).sum(0)

    def sums(self, part: Tensor) -> Tensor:
        """Sums over images and positions (C,), as a product of matrix and vector, the fastest way in either layout."""
        return self.summed((part.flatten(0, 1) @ part.new_ones(part.shape[-1])).unflatten(0, part.shape[:2])).flatten()


def _products(x: Tensor, shift: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """The blocks (G, d, d) of sum over positions of c c^T, and the sum of c (C,), for c = x - shift."""
    parts = _Parts(x, group_size)
    square, total = x.new_zeros(parts.blocks, parts.width, parts.width), torch.zeros_like(shift)
    for (centred,) in parts.centred(x, shift):
        square += parts.summed(_product_of(centred, centred.mT))
        total += parts.sums(centred)
    return _diagonal(square, group_size), total


def _product(x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """matrix (x - shift) + bias."""
    parts, y = _Parts(x, matrix.shape[-1]), torch.empty_like(x)
    wide, bias = parts.repeated(_filled(matrix, parts.width)), parts.repeated(bias)
    for centred, out in parts.centred(x, shift, y):
        _write_product(out, wide, centred)
        out += bias[: len(out)]
    return y


def _transposed(y: Tensor, x: Tensor, shift: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """matrix^T y, the blocks of sum over positions of y (x - shift)^T, and the sum of y."""
    parts, result, y = _Parts(x, matrix.shape[-1]), torch.empty_like(x), _laid_out_as(x, y)
    wide = parts.repeated(_filled(matrix.mT, parts.width))
    outer, total = x.new_zeros(parts.blocks, parts.width, parts.width), torch.zeros_like(shift)
    for centred, incoming, out in parts.centred(x, shift, y, result):
        outer += parts.summed(_product_of(incoming, centred.mT))
        total += parts.sums(incoming)
        _write_product(out, wide, incoming)
    return result, _diagonal(outer, matrix.shape[-1]), total


def _add_product(onto: Tensor, x: Tensor, shift: Tensor, matrix: Tensor, bias: Tensor) -> None:
    """onto += matrix (x - shift) + bias."""
    parts = _Parts(x, matrix.shape[-1])
    wide, bias = parts.repeated(_filled(matrix, parts.width)), parts.repeated(bias)
    for centred, out in parts.centred(x, shift, onto):
        out += bias[: len(out)]
        _write_product(out, wide, centred, beta=1)


def _width(x: Tensor, group_size: int) -> int:
    """How many channels a product takes together: as many groups as `WIDTH` allows, in equal parts."""
    groups, most = x.shape[1] // group_size, WIDTH.get(x.device.type, 32)
    return group_size * max(k for k in range(1, groups + 1) if groups % k == 0 and (k == 1 or k * group_size <= most))


def _product_of(a: Tensor, b: Tensor) -> Tensor:
    """a b, of one matrix each as `torch.mm`, which is faster than a batch of one."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def _write_product(out: Tensor, wide: Tensor, part: Tensor, beta: int = 0) -> None:
    """out <- beta out + wide part, for the blocks of a block-diagonal matrix."""
    if len(part) == 1:
        out[0].addmm_(wide[0], part[0], beta=beta)
    else:
        out.baddbmm_(wide[: len(part)], part, beta=beta)


def _filled(matrix: Tensor, width: int) -> Tensor:
    """The blocks (C / width, width, width) of a block-diagonal matrix given by smaller ones (G, d, d)."""
    size = matrix.shape[-1]
    filled = matrix.new_zeros(len(matrix) * size // width, width // size, size, width // size, size)
    filled.diagonal(dim1=1, dim2=3).copy_(matrix.unflatten(0, filled.shape[:2]).permute(0, 2, 3, 1))
    return filled.view(-1, width, width)


def _diagonal(blocks: Tensor, size: int) -> Tensor:
    """The way back: the smaller blocks (G, d, d) on the diagonals."""
    number = blocks.shape[-1] // size
    return blocks.view(-1, number, size, number, size).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2).reshape(-1, size, size)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _dense(x: Tensor) -> Tensor:
    return x if _channels_last(x) else x.contiguous()


def _laid_out_as(x: Tensor, y: Tensor) -> Tensor:
    return y.contiguous(memory_format=torch.channels_last if _channels_last(x) else torch.contiguous_format)
