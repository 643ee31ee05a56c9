"""Convolutions with bounded singular values (Sedghi, Gupta and Long 2019; Senderovich et al. 2022)."""

import math

import torch
from torch import Tensor

from spectral_repro.linalg.checks import check_count, check_positive
from spectral_repro.linalg.conv_spectrum import exceed, gram_matrices, largest_entry, samples, wide
from spectral_repro.linalg.conv_symbol import Size, Symbol, pair
from spectral_repro.linalg.hermitian import decompose

ACCURATE = 32  # largest ratio of singular value to bound for which the Gram matrix is computed in float32


@torch.no_grad()
def clip_conv(
    weight: Tensor,
    input_size: Size,
    clip_to: float,
    stride: Size = 1,
    groups: int = 1,
    dilation: Size = 1,
    rounds: int = 1,
    tolerance: float = 0.0,
) -> Tensor:
    """Clips the singular values of a convolution to c = ``clip_to``, and crops the result to the size of the kernel:

        w - crop(F^-1 U max(0, S - c) V^H),   U S V^H = B the blocks of `Symbol`, F^-1 from blocks to a kernel.

    The crop undoes a part of the clipping: after one round the largest singular value is 1.2 to 1.4 c. Clip and crop are
    projections onto convex sets, operators within the bound and kernels of this size, so more ``rounds`` converge to c.

    Only blocks with a value above c are decomposed, through U S^2 U^H = B B^H. In float32 the error before the crop is below
    2e-6 S_max (measured up to 512 channels); blocks with S_max above 32 c are computed in float64.

    Args:
        weight, input_size, stride, groups, dilation: those of `Symbol`.
        clip_to: c > 0.
        rounds: of clip and crop, the largest number.
        tolerance: stop when no value is above (1 + tolerance) c.

    Returns:
        The new kernel; the weight itself if no singular value is above the bound, or if it holds NaN or infinity.

    Raises:
        ValueError: as `Symbol`, and unless clip_to > 0 and ``rounds`` is a whole number >= 1.

    Example:
        >>> weight = torch.randn(16, 8, 3, 3)
        >>> clipped = clip_conv(weight, input_size=16, clip_to=5.0, rounds=100, tolerance=0.01)
        >>> bool(conv_norm(weight, 16) > 5.06), bool(conv_norm(clipped, 16) < 5.06)
        (True, True)
    """
    check_positive("clip_to", clip_to)
    check_count("rounds", rounds)
    symbol = Symbol(weight, input_size, stride, groups, dilation)
    entry = largest_entry(weight).item()
    if not math.isfinite(entry) or entry * weight.numel() <= clip_to:  # no singular value is above the sum of all entries
        return weight
    scaled, limit = weight / entry, clip_to / entry
    if _surely_within(limit, scaled, input_size, stride, groups, dilation):
        return weight
    symbol.weight = scaled
    for _ in range(rounds):
        change, largest = torch.zeros_like(weight), 0.0
        for part in symbol.parts:
            excess, value = _excess(symbol.blocks(part), limit)
            if value > limit:
                change, largest = change + symbol.kernel(excess, part), max(largest, value)
        if largest <= (1 + tolerance) * limit:
            break
        symbol.weight = symbol.weight - change
    return weight if symbol.weight is scaled else symbol.weight * entry


def divisor(largest: Tensor, bound: float) -> Tensor:
    """max(1, largest / bound): a weight divided by it has no singular value above the bound."""
    return (largest / bound).clamp_min(1)


def _surely_within(limit: float, weight: Tensor, input_size: Size, stride: Size, groups: int, dilation: Size) -> bool:
    """Whether a cheap bound, from few samples of a large map's spectrum and at most 17 % too large, is within the limit."""
    size, factor = samples(weight, stride, dilation, density=8)
    if 2 * math.prod(size) > math.prod(pair("input_size", input_size)):
        return False
    grams = gram_matrices(Symbol(weight, size, stride, groups, dilation))
    return not any(exceed(gram, (limit / factor) ** 2).any() for gram in grams)


def _excess(blocks: Tensor, limit: float) -> tuple[Tensor, float]:
    """U max(0, S - limit) V^H of blocks (f, groups, rows, columns), and the largest of S, or 0 if none is above the limit."""
    excess, matrices = torch.zeros_like(blocks), wide(blocks)
    gram = matrices @ matrices.mH
    above = exceed(gram.flatten(0, 1), limit**2).view(gram.shape[:2])
    if not above.any():
        return excess, 0.0
    matrices = matrices[above]
    values, vectors = decompose(gram[above])
    largest = values.max().sqrt().item()
    if largest > ACCURATE * limit and blocks.dtype == torch.complex64:
        excess, largest = _excess(blocks.to(torch.complex128), limit)
        return excess.to(torch.complex64), largest
    count = int((values > limit**2).sum(-1).max())
    values, vectors = values[:, :count], vectors[..., :count]
    factors = 1 - limit / values.clamp_min(limit**2).sqrt()
    wide(excess)[above] = (vectors * factors.unsqueeze(-2)) @ (vectors.mH @ matrices)
    return excess, largest
