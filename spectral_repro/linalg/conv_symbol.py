"""A convolution with circular padding as one small matrix for each frequency."""

import math
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple, Self

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import dtype_name, is_count

Size = int | tuple[int, int]

BATCH = 2**22  # complex numbers in the blocks that are in memory at a time


class Frequencies(NamedTuple):
    """The Fourier basis of a `Symbol` in whole numbers. It depends on the sizes only, not on the weight."""

    turns: Tensor
    """(F, s^2, K): n_1 n_2 <f + a n/s, d> / n for the frequencies f, the aliases a and the taps d."""
    multiplicity: Tensor
    """(F,), how many frequencies each of the F computed ones stands for."""
    sharing: Tensor
    """(K,), how many taps wrap around to the same pixel as each."""


class Symbol:
    """The blocks of x -> w * x in the Fourier basis, with circular padding, input size n and stride s.

    At each frequency f of the output grid {0 .. n/s - 1}^2, with its aliases f + a n/s, a in {0 .. s - 1}^2, on the input grid,

        B_f[o, (a, c)] = 1/s sum_d w[o, c, d] exp(-2 pi i <f + a n/s, d> / n),

    a matrix C_out x s^2 C_in for each group. The singular values of the blocks are those of the convolution, at whichever pixel
    its padding begins. Taps that wrap around to the same pixel add up. The kernel is real, so B_-f is conj B_f up to the order
    of the aliases, and only one of the two is computed. The sum over a few taps needs no FFT, and any part of the frequencies
    can be computed by itself.

    Args:
        weight: (C_out, C_in / groups, K_1, K_2), float32 or float64.
        input_size, stride, dilation: of both dimensions, or of each.
        frequencies: the result of `fourier_frequencies` for these sizes. None: computed here.

    Attributes:
        multiplicity: (F,), how many frequencies each of the F computed ones stands for.
        parts: slices of the F frequencies whose blocks are held in memory together.

    Raises:
        ValueError: for an input size that is not a multiple of the stride (such a convolution is not diagonal in a Fourier
            basis), and for an invalid argument.
    """

    def __init__(
        self,
        weight: Tensor,
        input_size: Size,
        stride: Size = 1,
        groups: int = 1,
        dilation: Size = 1,
        frequencies: Frequencies | None = None,
    ):
        size, stride = pair("input_size", input_size), pair("stride", stride)
        _check(weight, groups, size, stride)
        turns, multiplicity, sharing = frequencies or fourier_frequencies(weight.shape[2:], size, stride, dilation)
        angles, outputs = turns.double() * (-2 * math.pi / math.prod(size)), math.prod(size) // math.prod(stride)
        waves = [(part / math.prod(stride) ** 0.5).to(weight) for part in (angles.cos(), angles.sin())]
        self.waves = torch.complex(*waves)  # (F, s^2, K)
        self.multiplicity, self.scale = multiplicity.to(weight.device), 1 / (sharing * outputs).to(weight)
        self._set(weight, groups)

    def _set(self, weight: Tensor, groups: int) -> None:
        self.weight, self.groups = weight, groups
        count, aliases, _ = self.waves.shape
        step = max(1, BATCH // (aliases * weight[:, :, 0, 0].numel()))
        self.parts = [slice(start, start + step) for start in range(0, count, step)]

    def of(self, weights: list[Tensor]) -> Self:
        """The symbol of other weights of the same shape, dtype and device, which become the groups of one convolution.

        Nothing is copied between devices, unlike when a symbol is made.
        """
        symbol = copy(self)
        symbol._set(torch.cat(weights), self.groups * len(weights))
        return symbol

    def blocks(self, part: slice) -> Tensor:
        """B_f (f, groups, C_out / groups, s^2 C_in / groups) at a part of the frequencies, complex."""
        waves, taps = self.waves[part].flatten(0, 1), self.weight.flatten(2).permute(2, 0, 1).flatten(1)
        with full_precision(taps.device):
            blocks = torch.complex(waves.real @ taps, waves.imag @ taps)
        shape = (-1, self.waves.shape[1], self.groups, len(self.weight) // self.groups, self.weight.shape[1])
        return blocks.view(shape).permute(0, 2, 3, 1, 4).flatten(3)

    def kernel(self, blocks: Tensor, part: slice) -> Tensor:
        """The kernel with these blocks at a part of the frequencies and 0 at the others, cropped to the taps of the weight.

        This is the kernel of that size whose blocks are nearest to them. Taps that wrap around to the same pixel get equal
        shares.
        """
        waves = (self.waves[part] * self.multiplicity[part, None, None]).flatten(0, 1)
        blocks = blocks.unflatten(3, (self.waves.shape[1], -1)).permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(1)
        with full_precision(blocks.device):
            taps = waves.real.mT @ blocks.real + waves.imag.mT @ blocks.imag
        return (taps * self.scale[:, None]).mT.reshape(self.weight.shape)


def fourier_frequencies(kernel_size: Sequence[int], input_size: Size, stride: Size = 1, dilation: Size = 1) -> Frequencies:
    """The Fourier basis of a `Symbol` with these sizes, on the CPU.

    Args:
        kernel_size: (K_1, K_2).
        input_size, stride, dilation: those of `Symbol`.
    """
    size, stride, dilation = pair("input_size", input_size), pair("stride", stride), pair("dilation", dilation)
    outputs = [n // s for n, s in zip(size, stride, strict=True)]
    grid = [1 if taps == 1 else n for taps, n in zip(kernel_size, outputs, strict=True)]
    frequencies, multiplicity = _one_of_each_pair(grid)
    taps = _points(kernel_size) * _on_cpu(dilation)
    aliases = _points(stride) * _on_cpu(grid)
    turns = ((frequencies[:, None] + aliases)[:, :, None] * taps * _on_cpu(size[::-1])).sum(-1) % math.prod(size)
    places = taps % _on_cpu(size)
    sharing = (places[:, None] == places).all(-1).sum(-1)
    return Frequencies(turns, multiplicity * (math.prod(outputs) // math.prod(grid)), sharing)


def pair(name: str, value: Size | str, least: int = 1) -> tuple[int, int]:
    """Two numbers, one for each dimension.

    Raises:
        ValueError: unless the value is a whole number >= ``least``, or two of them.
    """
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or not all(is_count(number, least) for number in both):
        raise ValueError(f"{name}={value!r}: must be a whole number >= {least}, or two of them")
    first, second = map(int, both)
    return first, second


def _check(weight: Tensor, groups: int, size: tuple[int, int], stride: tuple[int, int]) -> None:
    if weight.dim() != 4 or weight.dtype not in (torch.float32, torch.float64):
        found = f"{tuple(weight.shape)} in {dtype_name(weight.dtype)}"
        raise ValueError(f"weight: must be (out, in / groups, height, width) in float32 or float64, not {found}")
    if not is_count(groups) or len(weight) % groups:
        raise ValueError(f"groups={groups!r}: must divide the {len(weight)} output channels")
    if size != (above := tuple(-(-n // s) * s for n, s in zip(size, stride, strict=True))):
        raise ValueError(f"input_size={size}: must be a multiple of stride={stride}; the next larger one is {above}")


def _on_cpu(numbers: Sequence[int]) -> Tensor:
    """A tensor on the CPU, whatever the default device is; a device context would slow down every operation in it."""
    return torch.tensor(numbers, dtype=torch.long, device="cpu")


def _points(lengths: Sequence[int]) -> Tensor:
    """The points of a grid, (product of lengths, 2)."""
    return _grid(*map(range, lengths))


def _grid(*axes: Sequence[int]) -> Tensor:
    """All combinations of the numbers of the axes."""
    return torch.cartesian_prod(*map(_on_cpu, axes))


def _one_of_each_pair(grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One of the frequencies f and -f (F, 2), and whether it stands for one or two (F,)."""
    rows, columns = grid
    own_mirror = range(0, columns, columns // 2) if columns % 2 == 0 else [0]
    halves = _grid(range(rows // 2 + 1), own_mirror)  # of the columns that are mirrored to themselves
    others = _grid(range(rows), range(1, (columns + 1) // 2))
    frequencies = torch.cat([halves, others])
    alone = (2 * frequencies % _on_cpu(grid) == 0).all(-1)
    return frequencies, 2 - alone.long()
