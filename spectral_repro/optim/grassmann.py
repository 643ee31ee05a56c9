"""What the optimisers on the sphere share: parameter groups and their checks, the gradient on the sphere, SGD for the rest."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from numbers import Real

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.sphere import length, project

BLOCK = 2**18  # numbers in a block of rows: the fastest power of two

Range = tuple[Callable[[Real], bool], str]
NOT_NEGATIVE: Range = (lambda value: value >= 0, "must be >= 0")
POSITIVE: Range = (lambda value: value > 0, "must be > 0")
BELOW_ONE: Range = (lambda value: 0 <= value < 1, "must be in [0, 1)")


class Grassmann(torch.optim.Optimizer, ABC):
    """Base of `SGDG` and `AdamG`: groups with ``grassmann=True`` are optimised on the sphere, the others by SGD with Nesterov
    momentum.

    On the sphere every row of a parameter (C_out, ...) stands for the line through it, a point of G(1, n) (cho2017, section 3).
    Once all groups are accepted, each of these rows is divided by its length; a row of zeros becomes (1, ..., 1) / sqrt(n).
    Steps move rows along great circles and do not normalise again, so weights that are loaded later must have rows of length 1
    too, as those of a checkpoint have.

    A step follows the gradient G + 2 omega (Y Y^T - I) Y of the loss and of omega / 2 |Y Y^T - I|^2, with Y all rows of the
    parameter. The part of a row's gradient that is tangent to the sphere is clipped to the length ``grad_clip``.

    Gradients are left as they are, and no step waits for the device. The state has the parameter's dtype and memory format.

    Args:
        params: parameters, named parameters, or groups of either with values of their own for any of the defaults.
        defaults: values for groups that do not have their own.

    Raises:
        TypeError: for parameters that torch refuses.
        ValueError: for a value out of range, sparse weights, and weights that cannot be on the sphere: complex numbers or
            integers, fewer than two dimensions, empty rows. No weight has been changed then.
    """

    ranges: dict[str, Range] = {
        "lr": NOT_NEGATIVE,
        "momentum": BELOW_ONE,
        "weight_decay": NOT_NEGATIVE,
        "omega": NOT_NEGATIVE,
        "grad_clip": POSITIVE,
    }
    _constructing = False

    def __init__(self, params: ParamsT, defaults: dict[str, object]):
        self._constructing = True
        super().__init__(params, defaults | {"last_lr": None})
        self._constructing = False
        for group in self.param_groups:
            _put_on_sphere(group)

    @abstractmethod
    def start(self, point: Tensor) -> dict[str, object]:
        """The state of a parameter on the sphere before its first step."""

    @abstractmethod
    def move(self, point: Tensor, gradient: Tensor, state: dict[str, object], group: dict[str, object]) -> None:
        """One step of a parameter on the sphere, changing it and its state in place."""

    def add_param_group(self, param_group: dict[str, object]) -> None:
        super().add_param_group(dict(param_group) if isinstance(param_group, dict) else param_group)
        try:
            self._check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise
        if not self._constructing:
            _put_on_sphere(self.param_groups[-1])

    def _check(self, group: dict[str, object]) -> None:
        for key, (allows, requirement) in self.ranges.items():
            value = group[key]
            if key == "grad_clip" and value is None:
                continue
            if not isinstance(value, Real):
                raise ValueError(f"{key}={value!r}: must be a number")
            if not allows(value):
                raise ValueError(f"{key}={value}: {requirement}{', or None' if key == 'grad_clip' else ''}")
        for parameter, name in zip(group["params"], _names(group), strict=True):
            if parameter.layout != torch.strided:
                raise ValueError(f"{name} is sparse: only dense weights are supported")
            if group["grassmann"] and not parameter.is_floating_point():
                raise ValueError(f"grassmann=True: {name} is {parameter.dtype}, but points on the sphere are real numbers")
            if group["grassmann"] and (parameter.dim() < 2 or parameter[:1].numel() == 0):
                raise ValueError(f"grassmann=True: {name} has no rows, put it into a group without grassmann")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step of all parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            What the closure returns.

        Raises:
            ValueError: for a sparse gradient. Nothing has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _check_gradients(group)
        for group in self.param_groups:
            if group["reset_on_lr_change"] and group["lr"] != group["last_lr"]:
                for parameter in group["params"]:
                    self.state.pop(parameter, None)
            group["last_lr"] = group["lr"]
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["grassmann"]:
                for point in parameters:
                    gradient = regularised(point, point.grad, group["omega"])
                    self.move(point, gradient, self._state(point, self.start), group)
            else:
                self._descend(parameters, group)
        return loss

    def _descend(self, parameters: list[Tensor], group: dict[str, object]) -> None:
        decay, gradients = group["weight_decay"], [parameter.grad for parameter in parameters]
        sgd(
            parameters,
            gradients if decay else [gradient.clone() for gradient in gradients],  # torch changes them if nothing decays
            [self._state(parameter, with_momentum)["momentum_buffer"] for parameter in parameters],
            foreach=True,
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=decay,
            dampening=0,
            nesterov=group["momentum"] > 0,
            maximize=False,
        )

    def _state(self, parameter: Tensor, start: Callable[[Tensor], dict[str, object]]) -> dict[str, object]:
        state = self.state[parameter]
        if not state:
            state.update(start(parameter))
        return state


def regularised(point: Tensor, gradient: Tensor, omega: float) -> Tensor:
    """G + 2 omega (Y Y^T - I) Y for Y (C_out, ...), the gradient itself for omega = 0.

    The numbers of a row are taken in the order in which they lie in memory, so that no weight is copied.
    """
    if omega == 0:
        return gradient
    order = [0, *sorted(range(1, point.dim()), key=point.stride, reverse=True)]
    rows, slopes = (tensor.permute(order).flatten(1) for tensor in (point, gradient))
    with full_precision(point.device):
        kernel = rows @ rows.mT
        kernel.diagonal().sub_(1)
        result = torch.addmm(slopes, kernel, rows, alpha=2 * omega)
    return result.view(point.permute(order).shape).permute([order.index(axis) for axis in range(point.dim())])


def descent(point: Tensor, gradient: Tensor, grad_clip: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """The part of every row's gradient tangent to the sphere, its length, and the factor that clips it to ``grad_clip``."""
    axes = within_rows(point)
    tangent = project(point, gradient, axes)
    size = length(tangent, axes)
    return tangent, size, torch.ones_like(size) if grad_clip is None else (grad_clip / size).clamp_(max=1)


def within_rows(point: Tensor) -> tuple[int, ...]:
    """The axes that make up a row."""
    return tuple(range(1, point.dim()))


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Splits tensors of as many rows each into blocks of the same rows. On a CPU a block fits into its cache, so that a step
    waits for memory once and not in every operation; on other devices there is one block.
    """
    first = tensors[0]
    rows = max(1, BLOCK // first.shape[1:].numel()) if first.device.type == "cpu" else len(first)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def with_momentum(parameter: Tensor) -> dict[str, object]:
    return {"momentum_buffer": torch.zeros_like(parameter)}


def _names(group: dict[str, object]) -> list[str]:
    """What messages call the parameters of a group."""
    shapes = [f"of shape {tuple(parameter.shape)}" for parameter in group["params"]]
    if "param_names" not in group:
        return [f"a parameter {shape}" for shape in shapes]
    return [f"parameter {name} {shape}" for name, shape in zip(group["param_names"], shapes, strict=True)]


def _check_gradients(group: dict[str, object]) -> None:
    sparse = [p.grad is not None and p.grad.layout != torch.strided for p in group["params"]]
    if any(sparse):
        raise ValueError(f"{_names(group)[sparse.index(True)]} has a sparse gradient: only dense gradients are supported")


@torch.no_grad()
def _put_on_sphere(group: dict[str, object]) -> None:
    for parameter in group["params"] if group["grassmann"] else ():
        size = length(parameter, within_rows(parameter))
        parameter.copy_(torch.where(size == 0, parameter.shape[1:].numel() ** -0.5, parameter / size))
