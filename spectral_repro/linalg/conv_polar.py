"""Polar factors of convolutions, one for each frequency."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from spectral_repro.linalg.conv_symbol import Size, Symbol


@torch.no_grad()
def orthogonalise_conv(weight: Tensor, input_size: Size, stride: Size = 1, groups: int = 1, dilation: Size = 1) -> Tensor:
    """Sets all singular values of a convolution to 1, and crops the result to the size of the kernel:

        crop(F^-1 U V^H),   U S V^H = B the blocks of `Symbol`, F^-1 from blocks to a kernel.

    U V^H is the polar factor of B, the nearest matrix with orthonormal rows or columns. The crop gives the nearest kernel of
    this size. Its singular values are 1 if the kernel is as large as the map, and spread around 1 otherwise. For a 1 x 1 kernel
    the result is the polar factor of its matrix.

    Args:
        weight, input_size, stride, groups, dilation: those of `Symbol`, circular padding.

    Returns:
        A kernel of the shape of the weight, without gradient. Directions with singular value 0 get arbitrary signs.

    Raises:
        ValueError: as `Symbol`.
        torch.linalg.LinAlgError: for a weight that is not finite.

    Example:
        >>> kernel = orthogonalise_conv(torch.randn(8, 8, 3, 3), input_size=3)
        >>> torch.dist(conv_singular_values(kernel, 3), torch.ones(72)) < 1e-4
        tensor(True)
    """

    def polar(blocks: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(blocks, full_matrices=False)
        factor: Tensor = left @ right
        return factor

    return kernel_of(Symbol(weight, input_size, stride, groups, dilation), polar)


def kernel_of(symbol: Symbol, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The kernel whose blocks are nearest to the changed blocks of a symbol."""
    return reduce(torch.add, (symbol.kernel(change(symbol.blocks(part)), part) for part in symbol.parts))
