"""Parametrizations of the weight of `torch.nn.Conv2d`, in the style of `torch.nn.utils.parametrizations`.

Each function registers a parametrization on a convolution, in place, and returns the convolution. It stays an `nn.Conv2d` with
a ``weight``; what is trained is under ``parametrizations.weight``. To export it,
`torch.nn.utils.parametrize.remove_parametrizations(conv, "weight")` leaves a plain convolution with the current weight, and
`spectral_repro.layers.export` makes such a copy of a whole network.

Convolutions that share one weight keep sharing it if the parametrization is registered on each of them, except with
`skew_orthogonal`, which raises an error for the second one.
"""

import weakref
from collections.abc import Callable, MutableMapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization
from torch.utils.weak import WeakTensorKeyDictionary

from spectral_repro.layers.tucker import tucker_ranks
from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import check_count, check_positive
from spectral_repro.linalg.conv_clip import divisor
from spectral_repro.linalg.conv_padding import circular_operator, padded_conv2d
from spectral_repro.linalg.conv_power import conv_power_iteration
from spectral_repro.linalg.conv_symbol import Frequencies, Size, Symbol, fourier_frequencies, pair
from spectral_repro.linalg.power_iteration import norm_of_image
from spectral_repro.linalg.singular_values import clip_singular_values
from spectral_repro.linalg.tucker import compose, tucker2

ITERATIONS = 50  # of power iteration when a parametrization is registered

# from a weight that a parametrization replaced to that parametrization
_replaced: MutableMapping[Tensor, weakref.ref[ParametrizationList]] = WeakTensorKeyDictionary()


def bounded_norm(module: nn.Conv2d, input_size: Size, bound: float = 1.0, iterations: int = 1) -> nn.Conv2d:
    """Bounds the largest singular value of a convolution: its weight becomes w / max(1, sigma / c).

    sigma is the norm of the operator that the layer applies to maps of this size, with its stride, groups, dilation and padding
    of any mode (zeros, reflect, replicate, circular), by `conv_power_iteration`. In training mode the iteration continues with
    every access to the weight; in evaluation mode the weight is constant. sigma is a lower bound: accurate while the weight
    changes slowly, and too small right after a large change. The gradient of sigma treats the vector of the iteration as a
    constant, like `torch.nn.utils.parametrizations.spectral_norm`, which is exact once the iteration has converged. A second
    derivative of sigma in training mode raises NotImplementedError (`norm_of_image`).

    Args:
        module: the convolution.
        input_size: height and width of its input.
        bound: c > 0.
        iterations: of power iteration in each access, 50 at registration.

    Returns:
        The module.

    Raises:
        ValueError: for another module, or an argument out of range.

    Example:
        >>> conv = bounded_norm(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), input_size=16, bound=0.5)
        >>> conv_power_iteration(conv.weight, torch.randn(1, 8, 16, 16), padding=1, padding_mode="reflect")[0] < 0.501
        tensor(True)
    """
    _check(module, bound)
    check_count("iterations", iterations)
    register_parametrization(module, "weight", _BoundedNorm(module, pair("input_size", input_size), bound, iterations))
    return module


def clipped_singular_values(module: nn.Conv2d, input_size: Size, bound: float = 1.0, rounds: int = 1) -> nn.Conv2d:
    """Clips the singular values of a convolution above c = ``bound``: its weight becomes the result of `clip_conv`.

    What is clipped is the circular convolution of `circular_operator`, whose norm bounds that of the layer: the layer itself
    for circular padding that keeps the size, the circular convolution on the padded map for zeros. For padding with reflected
    or replicated pixels, the singular values are clipped to c divided by the norm of the padding.

    The crop to the size of the kernel undoes a part of it: the largest value is 1.2 to 1.4 c after one round and 1.01 c after
    some dozens; `bounded_norm` on top of it removes the rest. Every access decomposes the blocks of all frequencies. The
    gradient is exact (`clip_singular_values`).

    Args:
        module: the convolution.
        input_size: height and width of its input.
        bound: c > 0.
        rounds: of clip and crop.

    Returns:
        The module.

    Raises:
        ValueError: for another module, or an argument out of range.

    Example:
        >>> conv = clipped_singular_values(nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), 16, bound=0.3, rounds=50)
        >>> conv_norm(conv.weight, 16) < 0.31
        tensor(True)
    """
    _check(module, bound)
    check_count("rounds", rounds)
    register_parametrization(module, "weight", _Clipped(module, pair("input_size", input_size), bound, rounds))
    return module


def tucker(module: nn.Conv2d, rank: int | None = None, scale: float | None = None) -> nn.Conv2d:
    """Gives a convolution the Tucker-2 form w[o, i] = sum_ba left[o, b] core[b, a] right[i, a] of senderovich2022.

    The three factors, ``parametrizations.weight.original0`` to ``original2``, are the new parameters. They start as the
    truncated decomposition (`tucker2`) of the weight, with ``left`` and ``right`` orthonormal. Every access composes the whole
    kernel: there are fewer parameters, but the convolution is not faster. `TTConv2d` applies the factors one after the other. A
    convolution that shared its weight with one in this form uses the same three factors.

    Args:
        module: the convolution, with groups or without.
        rank: r_1 = min(in_channels / groups, rank), r_2 = min(out_channels, rank).
        scale: instead of the rank; r_1 = scale in_channels / groups, r_2 = scale out_channels, rounded down to 1 at least.

    Returns:
        The module. ``parametrizations.weight[0].relative_error`` is |w - w_0|_F / |w_0|_F for the last weight w_0 that was
        assigned.

    Raises:
        ValueError: for another module, unless exactly one of ``rank`` and ``scale`` is given, and in range, and for ranks that
            differ from those of a convolution that shared the weight.

    Example:
        >>> conv = tucker(nn.Conv2d(16, 32, 3), rank=8)
        >>> conv.weight.shape, sum(parameter.numel() for parameter in conv.parameters())
        (torch.Size([32, 16, 3, 3]), 992)
    """
    _check(module)
    ranks = tucker_ranks(module.weight.shape[1], module.out_channels, rank, scale)
    weight, tied = module.weight, _tied(module)
    tied_ranks = ranks if tied is None else tied[0].ranks
    if tied_ranks != ranks:
        raise ValueError(f"ranks={ranks}: the weight is shared with a convolution of ranks {tied_ranks}: take the same")
    register_parametrization(module, "weight", _Tucker(ranks))
    if tied is None:
        tied = _of_weight(module)
    else:
        module.get_submodule("parametrizations").register_module("weight", tied)
    _replaced[weight] = weakref.ref(tied)
    return module


def skew_orthogonal(module: nn.Conv2d) -> nn.Conv2d:
    """Makes a 1 x 1 convolution orthogonal: the weight of each group, as a matrix, has orthonormal rows or columns.

    The weight is Q exp(A), cropped to the channels of the layer, with a skew-symmetric A made of the parameter and a constant
    orthogonal Q. It starts at the orthonormal matrix nearest to the weight. This is `SOC` with the exact exponential. For
    larger kernels the exponential is a series of padded convolutions and not one kernel: use `SOC`.

    Args:
        module: the convolution, 1 x 1 and without padding.

    Returns:
        The module.

    Raises:
        ValueError: for another module, and for one that shares its weight with a skew orthogonal convolution.

    Example:
        >>> weight = skew_orthogonal(nn.Conv2d(8, 4, 1)).weight[:, :, 0, 0]
        >>> torch.dist(weight @ weight.mT, torch.eye(4)) < 1e-5
        tensor(True)
    """
    _check(module)
    if module.kernel_size != (1, 1) or module.padding not in ((0, 0), "valid", "same"):
        raise ValueError(f"{module}: only a 1 x 1 kernel without padding is one skew orthogonal kernel; use SOC for others")
    if _tied(module) is not None:
        raise ValueError(f"{module}: shares its weight with a skew orthogonal convolution: give it a weight of its own")
    weight = module.weight
    register_parametrization(module, "weight", _SkewOrthogonal(module))
    _replaced[weight] = weakref.ref(_of_weight(module))
    return module


def _check(module: nn.Module, bound: float = 1.0) -> None:
    if not isinstance(module, nn.Conv2d):
        raise ValueError(f"{type(module).__name__}: must be an nn.Conv2d")
    check_positive("bound", bound)


def _tied(module: nn.Conv2d) -> ParametrizationList | None:
    """The parametrization of another convolution that had the same weight, if that one replaced it."""
    reference = _replaced.get(module.weight)
    return None if reference is None else reference()


def _of_weight(module: nn.Conv2d) -> ParametrizationList:
    """The parametrization that was registered on the weight of a convolution."""
    found = module.get_submodule("parametrizations.weight")
    assert isinstance(found, ParametrizationList)
    return found


def _geometry(conv: nn.Conv2d, *names: str) -> dict[str, Any]:
    """These arguments of a convolution, by name."""
    return {name: getattr(conv, name) for name in names}


def _at_least_single(weight: Tensor) -> Tensor:
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


class _BoundedNorm(nn.Module):
    vector: Tensor

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int], bound: float, iterations: int):
        super().__init__()
        self.bound, self.iterations = bound, iterations
        self.geometry = _geometry(conv, "stride", "padding", "groups", "dilation", "padding_mode")
        weight = _at_least_single(conv.weight.detach())
        self.register_buffer("vector", torch.randn(1, conv.in_channels, *size, dtype=weight.dtype, device=weight.device))
        self._iterate(weight, ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        kernel = _at_least_single(weight)
        if self.training:
            self._iterate(kernel.detach(), self.iterations)
        with full_precision(kernel.device):
            # a copy: another access may change the vector before the gradient of this one is taken
            image = padded_conv2d(self.vector.to(kernel.dtype, copy=True), kernel, **self.geometry)
            largest = norm_of_image(image) if self.training else torch.linalg.vector_norm(image)
        return weight / divisor(largest, self.bound).to(weight.dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    @torch.no_grad()
    def _iterate(self, kernel: Tensor, iterations: int) -> None:
        start = self.vector.to(kernel.dtype)
        self.vector.copy_(conv_power_iteration(kernel, start, **self.geometry, iterations=iterations)[1])


class _Clipped(nn.Module):
    def __init__(self, conv: nn.Conv2d, size: tuple[int, int], bound: float, rounds: int):
        super().__init__()
        padding = _geometry(conv, "padding", "padding_mode")
        size, factor = circular_operator(size, **_geometry(conv, "kernel_size", "stride", "dilation"), **padding)
        self.geometry = {"input_size": size, **_geometry(conv, "stride", "groups", "dilation")}
        self.limit, self.rounds = bound / factor, rounds
        # constants: no buffers, which `to_empty` would leave without values
        self.frequencies = fourier_frequencies(input_size=size, **_geometry(conv, "kernel_size", "stride", "dilation"))
        self._move_frequencies(conv.weight.device)

    def forward(self, weight: Tensor) -> Tensor:
        kernel = _at_least_single(weight)
        for _ in range(self.rounds):
            symbol, change = Symbol(kernel, **self.geometry, frequencies=self.frequencies), torch.zeros_like(kernel)
            for part in symbol.parts:
                blocks = symbol.blocks(part)
                change = change + symbol.kernel(blocks - clip_singular_values(blocks, self.limit), part)
            kernel = kernel - change
        return kernel.to(weight.dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._move_frequencies(fn(self.frequencies.multiplicity).device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _move_frequencies(self, device: torch.device) -> None:
        if device.type != "meta":  # where they would be lost
            self.frequencies = Frequencies(*(numbers.to(device) for numbers in self.frequencies))


class _Tucker(nn.Module):
    def __init__(self, ranks: tuple[int, int]):
        super().__init__()
        self.ranks = ranks

    def forward(self, left: Tensor, core: Tensor, right: Tensor) -> Tensor:
        return compose(left, core, right)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, core, right, self.relative_error = tucker2(weight, self.ranks)
        return left, core, right


class _SkewOrthogonal(nn.Module):
    """``base`` (groups, C, C), C the larger one of the channels of a group; the parameter has the shape of the weight."""

    base: Tensor

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.groups = conv.groups
        rows, columns = conv.out_channels // conv.groups, conv.in_channels // conv.groups
        larger = max(rows, columns)
        weight = _at_least_single(conv.weight)
        self.register_buffer("base", torch.empty(conv.groups, larger, larger, dtype=weight.dtype, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        tall = self._tall(_at_least_single(weight))
        rows, columns = tall.shape[-2:]
        with full_precision(tall.device):
            square = pad(tall, (0, rows - columns))
            matrix = (self.base.to(tall.dtype) @ torch.matrix_exp((square - square.mT) / 2))[..., :columns]
        return self._weight(matrix, weight.shape).to(weight.dtype)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        """0, with the nearest orthonormal matrix as the new base: U V^T of the singular value decomposition, completed."""
        left, _, right = torch.linalg.svd(self._tall(_at_least_single(weight)), full_matrices=True)
        columns = right.shape[-1]
        self.base.copy_(torch.cat([left[..., :columns] @ right, left[..., columns:]], -1))
        return torch.zeros_like(weight)

    def _tall(self, weight: Tensor) -> Tensor:
        """(groups, C, the smaller one of the channels)."""
        matrices = weight.view(self.groups, -1, weight.shape[1])
        return matrices if matrices.shape[-2] >= matrices.shape[-1] else matrices.mT

    def _weight(self, tall: Tensor, shape: torch.Size) -> Tensor:
        wide = shape[0] // self.groups < shape[1]
        return (tall.mT if wide else tall).reshape(shape)
