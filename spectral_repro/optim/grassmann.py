"""The base class of the optimisers on the sphere: groups, checks and the gradient on the sphere."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.sphere import length, project
from spectral_repro.optim.mixed import NOT_NEGATIVE, MixedOptimizer, Range, gradients_of, named

BLOCK = 2**19  # numbers in a block of rows: the fastest power of two


class Grassmann(MixedOptimizer, ABC):
    """Base of `SGDG` and `AdamG`: groups with ``grassmann=True`` are optimised on the sphere, the others by SGD with Nesterov
    momentum.

    On the sphere every row of a parameter (C_out, ...) represents a line, a point of G(1, n) (cho2017, section 3). When all
    groups have been checked, each of these rows is divided by its length; a row of zeros becomes (1, ..., 1) / sqrt(n). Frozen
    parameters (``requires_grad=False``) stay as they are. Steps move rows along great circles and do not normalise again, so
    weights that are loaded or unfrozen later must have rows of length 1, as those of a checkpoint have.

    A step follows the gradient G + 2 omega (Y Y^T - I) Y of the loss and of omega / 2 |Y Y^T - I|^2, with Y all rows of the
    parameter. The part of a row's gradient that is tangent to the sphere is clipped to the length ``grad_clip``.

    Args:
        params, defaults: see `MixedOptimizer`.

    Raises:
        TypeError, ValueError: see `MixedOptimizer`; and for weights that cannot be on the sphere: complex or integer ones,
            those of fewer than two dimensions or with empty rows. No weight is changed then.

    Example:
        >>> network = nn.Conv2d(8, 16, 3)
        >>> isinstance(sgdg(network.parameters(), network), Grassmann)
        True
    """

    ranges = MixedOptimizer.ranges | {
        "omega": NOT_NEGATIVE,
        "grad_clip": Range(lambda value: value > 0, "must be > 0", optional=True),
    }
    _constructing = False

    def __init__(self, params: ParamsT, defaults: dict[str, Any]):
        self._constructing = True
        super().__init__(params, defaults | {"last_lr": None})
        self._constructing = False
        for group in self.param_groups:
            _put_on_sphere(group)

    @abstractmethod
    def start(self, point: Tensor) -> dict[str, Any]:
        """The state of a parameter on the sphere before its first step."""

    @abstractmethod
    def move(self, point: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of a parameter on the sphere, changing it and its state in place."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if not self._constructing:
            _put_on_sphere(self.param_groups[-1])

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        for parameter, name in named(group) if group["grassmann"] else ():
            if not parameter.is_floating_point():
                raise ValueError(f"grassmann=True: {name} is {parameter.dtype}, but points on the sphere are real numbers")
            if parameter.dim() < 2 or parameter[:1].numel() == 0:
                raise ValueError(f"grassmann=True: {name} has no rows, put it into a group without grassmann")

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        if group["reset_on_lr_change"] and group["lr"] != group["last_lr"]:
            for parameter in group["params"]:
                self.state.pop(parameter, None)
        group["last_lr"] = group["lr"]
        if group["grassmann"]:
            for point, gradient in zip(parameters, gradients_of(parameters), strict=True):
                gradient = regularised(point, gradient, group["omega"])
                self.move(point, gradient, self.state_of(point, self.start), group)
        else:
            super().update(group, parameters)

    def describe(self, group: dict[str, Any]) -> str:
        return "on the sphere" if group["grassmann"] else super().describe(group)


def regularised(point: Tensor, gradient: Tensor, omega: float) -> Tensor:
    """G + 2 omega (Y Y^T - I) Y for Y (C_out, ...), the gradient itself for omega = 0.

    The numbers of a row are taken in memory order, so that no weight is copied.
    """
    if omega == 0:
        return gradient
    order = [0, *sorted(range(1, point.dim()), key=point.stride, reverse=True)]
    rows, gradients = (tensor.permute(order).flatten(1) for tensor in (point, gradient))
    with full_precision(point.device):
        kernel = rows @ rows.mT
        kernel.diagonal().sub_(1)
        result = torch.addmm(gradients, kernel, rows, alpha=2 * omega)
    return result.view(point.permute(order).shape).permute([order.index(axis) for axis in range(point.dim())])


def descent(point: Tensor, gradient: Tensor, grad_clip: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """The part of every row's gradient that is tangent to the sphere, the factor that clips it, and its length when clipped."""
    axes = within_rows(point)
    tangent = project(point, gradient, axes)
    size = length(tangent, axes)
    if grad_clip is None:
        return tangent, torch.ones_like(size), size
    return tangent, (grad_clip / size).clamp_(max=1), size.clamp_max(grad_clip)  # finite, also for an infinite length


def within_rows(point: Tensor) -> tuple[int, ...]:
    """The axes that make up a row."""
    return tuple(range(1, point.dim()))


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Splits tensors with the same number of rows into blocks of rows. On a CPU a block fits into the cache, so that a step
    reads memory once and not in every operation; on other devices there is one block.
    """
    first = tensors[0]
    rows = max(1, BLOCK // first.shape[1:].numel()) if first.device.type == "cpu" else len(first)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


@torch.no_grad()
def _put_on_sphere(group: dict[str, Any]) -> None:
    trained = [parameter for parameter in group["params"] if parameter.requires_grad]
    for parameter in trained if group["grassmann"] else ():
        size = length(parameter, within_rows(parameter))
        parameter.copy_(torch.where(size == 0, parameter.shape[1:].numel() ** -0.5, parameter / size))
