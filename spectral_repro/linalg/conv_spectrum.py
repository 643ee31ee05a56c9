"""Singular values of convolutions with circular padding (Sedghi, Gupta and Long 2019), and bounds of the largest one.

Arguments and errors are those of `Symbol`: weight (C_out, C_in / groups, K_1, K_2), input size, stride, groups and dilation.
Everything is computed in the dtype of the weight, float32 or float64. A linear layer is a convolution of one pixel.

With zero padding p, the convolution of n pixels is a part of the circular one of n + p or more, so its norm is at most as
large.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.conv_symbol import Size, Symbol, pair

TOGETHER = 4  # blocks whose eigenvalues are computed together


def conv_singular_values(weight: Tensor, input_size: Size, stride: Size = 1, groups: int = 1, dilation: Size = 1) -> Tensor:
    """All singular values, in descending order: groups min(C_out, s^2 C_in) / groups for each pixel of the output.

    In float32 the error is about 1e-6 of the largest value. Differentiable; no second derivative where two values are equal.

    Args:
        weight: (C_out, C_in / groups, K_1, K_2), float32 or float64.
        input_size: height and width of the map, or one number for both.
        stride, groups, dilation: of the convolution.

    Returns:
        The singular values, a vector in the dtype of the weight.

    Example:
        >>> conv_singular_values(torch.ones(1, 1, 2, 1), input_size=(3, 1))
        tensor([2.0000, 1.0000, 1.0000])
    """
    symbol = Symbol(weight, input_size, stride, groups, dilation)
    values = [torch.linalg.svdvals(symbol.blocks(part)).flatten(1) for part in symbol.parts]
    return torch.cat(values).repeat_interleave(symbol.multiplicity, 0).flatten().sort(descending=True).values


@torch.no_grad()
def conv_norm(weight: Tensor, input_size: Size, stride: Size = 1, groups: int = 1, dilation: Size = 1) -> Tensor:
    """The largest singular value, a scalar tensor; in float32 with a relative error of about 1e-6.

    The square root of the largest eigenvalue of the Gram matrices of the blocks. Most blocks are ruled out by a bound of their
    norm or by a Cholesky factorisation. If many blocks have nearly the same norm, as for an orthogonal kernel, the eigenvalues
    of all of them are computed, which takes no longer than all singular values. Synchronises with the device.

    Args:
        weight: (C_out, C_in / groups, K_1, K_2), float32 or float64.
        input_size: height and width of the map, or one number for both.
        stride, groups, dilation: of the convolution.

    Returns:
        The norm; NaN for a weight that is not finite.

    Example:
        >>> conv_norm(torch.nn.init.dirac_(torch.empty(8, 8, 3, 3)), input_size=16)
        tensor(1.)
    """
    symbol, entry = Symbol(weight, input_size, stride, groups, dilation), largest_entry(weight)
    if not entry.isfinite():
        return weight.new_full((), torch.nan)
    if not weight.any():
        return weight.new_zeros(())
    symbol.weight = weight / entry
    largest, slack = weight.new_zeros(()), 1 + 4 * torch.finfo(weight.dtype).eps
    for part in symbol.parts:
        blocks = wide(symbol.blocks(part).flatten(0, 1))
        bounds = _squared_bounds(blocks)
        largest = torch.maximum(largest, _largest_eigenvalue(_gram(blocks[bounds.argmax()])))
        gram = _gram(blocks[bounds > largest * slack])
        gram = gram[torch.view_as_real(gram).flatten(1).norm(dim=1).argsort(descending=True)]
        count = TOGETHER
        while len(gram):
            candidates, rest = gram[:count], gram[count:]
            largest = torch.maximum(largest, _largest_eigenvalue(candidates))
            gram = rest[exceed(rest, largest * slack)]
            if len(gram) > len(rest) / 2:  # another test would rule out few of them
                count = len(gram)
    return largest.sqrt() * entry


def conv_norm_bound(
    weight: Tensor,
    input_size: Size | None = None,
    stride: Size = 1,
    groups: int = 1,
    dilation: Size = 1,
    iterations: int = 5,
) -> Tensor:
    """An upper bound of the largest singular value by Gram iteration (Delattre et al. 2023), a scalar tensor:

        max_f |G_f^(2^t)|_F^(1 / 2^(t + 1)),  G_f = B_f B_f^H,   at most d^(1 / 2^(t + 2)) times too large for d x d matrices.

    Without ``input_size`` a bound for inputs of every size and circular or zero padding, at most 4 % larger (`samples`).
    Differentiable.

    Args:
        weight: (C_out, C_in / groups, K_1, K_2), float32 or float64.
        input_size: height and width of the map, or one number for both; None: every size.
        stride, groups, dilation: of the convolution.
        iterations: t >= 0, the squarings; each halves the logarithm of the error.

    Returns:
        The bound, a tensor of one number; NaN for a weight that is not finite.

    Raises:
        ValueError: as `Symbol`, and unless ``iterations`` is a whole number >= 0.

    Example:
        >>> weight = torch.randn(16, 8, 3, 3)
        >>> bool(conv_norm(weight, input_size=32) <= conv_norm_bound(weight))
        True
    """
    check_count("iterations", iterations, least=0)
    factor = 1.0
    if input_size is None:
        input_size, factor = samples(weight, stride, dilation, density=16)
    symbol, bounds = Symbol(weight, input_size, stride, groups, dilation), []
    entry = largest_entry(weight)
    symbol.weight = weight / entry
    for gram in gram_matrices(symbol):
        logarithm = weight.new_zeros(())
        for doublings in range(iterations + 1):
            gram = gram @ gram if doublings else gram
            norm = torch.linalg.matrix_norm(gram, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
            logarithm, gram = logarithm + norm.log() / 2 ** (doublings + 1), gram / norm
        bounds.append(logarithm.amax())
    return torch.stack(bounds).amax().exp() * factor * entry


def gram_matrices(symbol: Symbol) -> Iterator[Tensor]:
    """The smaller of the Gram matrices of B and B^T for every block, in batches (b, d, d)."""
    for part in symbol.parts:
        yield _gram(wide(symbol.blocks(part).flatten(0, 1)))


def _gram(blocks: Tensor) -> Tensor:
    return blocks @ blocks.mH


def _largest_eigenvalue(gram: Tensor) -> Tensor:
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
    return eigenvalues[..., -1].amax()


def _squared_bounds(blocks: Tensor) -> Tensor:
    """Upper bounds of the squared spectral norms of B (b, rows, columns): the smaller of |B|_1 |B|_inf and |B|_F^2."""
    sizes = blocks.abs()
    ones = sizes.sum(-2).amax(-1) * sizes.sum(-1).amax(-1)
    return torch.minimum(ones, torch.linalg.vector_norm(torch.view_as_real(blocks), dim=(-3, -2, -1)).square())


def wide(blocks: Tensor) -> Tensor:
    """The blocks (..., rows, columns), transposed if they have more rows than columns."""
    return blocks if blocks.shape[-2] <= blocks.shape[-1] else blocks.mT


def exceed(gram: Tensor, limit: Tensor | float) -> Tensor:
    """Which of the Hermitian matrices G (b, d, d) have an eigenvalue above the limit: those for which limit I - G has no
    Cholesky factor. Exact up to rounding, 1e-6 of the limit in float32, and five times as fast as eigenvalues.
    """
    rest = -gram
    rest.diagonal(dim1=-2, dim2=-1).add_(limit)
    info: Tensor = torch.linalg.cholesky_ex(rest).info
    return info > 0


@torch.no_grad()
def largest_entry(weight: Tensor) -> Tensor:
    """max |w|, a positive scalar tensor. The squares of w / max |w| neither overflow nor underflow."""
    return weight.abs().amax().clamp_min(torch.finfo(weight.dtype).tiny)


def samples(weight: Tensor, stride: Size, dilation: Size, density: int) -> tuple[tuple[int, int], float]:
    """An input size and a factor: the norm at this size, times the factor, bounds the norm at every size and with zero padding.

    Along one dimension of the output grid, the real part of u^H B_f v for any u and v is, up to a phase, a function of f of
    exponential type r, where 2 r + 1 = ceil(K / s) and K is the extent of the kernel. For |f - f*| <= pi / r it therefore stays
    above cos(r |f - f*|) times its maximum, at f*. The nearest of N samples is at most pi / N away, and N = ``density`` r.
    """
    size, factor = [], 1.0
    for taps, s, d in zip(weight.shape[2:], pair("stride", stride), pair("dilation", dilation), strict=True):
        degree = (math.ceil(((taps - 1) * d + 1) / s) - 1) / 2
        number = max(1, math.ceil(density * degree))
        size.append(number * s)
        factor /= math.cos(math.pi * degree / number)
    rows, columns = size
    return (rows, columns), factor
