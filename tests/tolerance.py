"""How far apart two correct computations of the same numbers may be.

Processors and numbers of threads add in different orders and with or without fused multiplications, so no two of them agree to
the last bit. The bounds here follow from what is computed, never from what one machine gave.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def tolerance(dtype: torch.dtype, terms: int = 1, condition: float = 1.0) -> float:
    """The largest error to expect relative to the largest entry: 16 eps sqrt(terms) condition.

    Each rounding is off by at most eps / 2. Independent roundings add up like a random walk, hence the square root, and 16
    leaves room for the constants: two sides that both round, a few operations in a row, the largest of many entries.

    Args:
        dtype: the least precise floating-point type of the computation.
        terms: how many rounded numbers add up to one entry: the length of a sum, times the number of such steps in a row
            (d for a product of d x d matrices, 20 * d for 20 of them, fan-in times depth for a network).
        condition: how much the problem magnifies a relative error of its input: the condition number of a matrix that is
            inverted, the largest eigenvalue over the smallest gap for eigenvectors, 1 for products and sums.

    Example:
        >>> assert relative_error(root @ root, matrix) < tolerance(torch.float32, terms=64, condition=100)
    """
    return 16 * torch.finfo(dtype).eps * math.sqrt(terms) * condition


def condition_of(eigenvalues: Sequence[float], gaps: bool = True) -> float:
    """How much a function of a symmetric matrix and its gradient magnify a relative error of the matrix.

    Args:
        eigenvalues: of the matrix, positive, in descending order.
        gaps: does the computation divide by the gaps between eigenvalues? If not, ties do no harm.

    Returns:
        The largest eigenvalue over the smallest one, and over the smallest gap if that is smaller.
    """
    smallest = [eigenvalues[-1], *(a - b for a, b in pairwise(eigenvalues) if gaps)]
    return eigenvalues[0] / min(smallest)


def sampling_error(sample: Tensor) -> float:
    """How far the standard deviation of independent numbers may be off, relative: 5 of its own standard deviations.

    That is 1 / sqrt(2 n) for n normal numbers and less for uniform ones.
    """
    return 5 / math.sqrt(2 * sample.numel())


def relative_error(value: Tensor, reference: Tensor) -> float:
    """The largest difference over the largest entry of the reference."""
    return ((value - reference).abs().max() / reference.abs().max()).item()


def assert_near(
    value: Tensor, reference: Tensor, terms: int = 1, condition: float = 1.0, dtype: torch.dtype | None = None
) -> None:
    """Checks that no entry is off by more than `tolerance` times the largest entry of the reference.

    Args:
        value: what is tested.
        reference: what it should be, of the same shape.
        terms: as in `tolerance`.
        condition: as in `tolerance`.
        dtype: the least precise type of the computation; by default, that of the less precise of the two tensors.
    """
    dtype = dtype or max(value.dtype, reference.dtype, key=lambda each: torch.finfo(each).eps)
    bound = tolerance(dtype, terms, condition) * reference.abs().max().item()
    torch.testing.assert_close(value.to(reference.dtype), reference, rtol=0, atol=bound)
