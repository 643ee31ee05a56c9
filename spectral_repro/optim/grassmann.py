"""What the optimisers on the sphere share: their parameters, the gradient there, and SGD for whatever is not there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from spectral_repro.linalg.sphere import length, project

BLOCK = 2**18  # numbers in a block of rows: the fastest power of two


class Grassmann(torch.optim.Optimizer, ABC):
    """Groups of parameters with ``grassmann=True`` are optimised on the sphere, the others by SGD with Nesterov momentum.

    On the sphere every row of a parameter (C_out, ...) stands for the line through it, a point of G(1, n) (cho2017, section 3).
    Rows are brought to length 1 when the optimiser takes them, rows of zeros to (1, ..., 1) / sqrt(n); steps lead them along
    great circles and normalise nothing. Weights that are loaded later must have such rows, as those of a checkpoint do.

    A step follows the gradient G + 2 omega (Y Y^T - I) Y of the loss and of omega / 2 |Y Y^T - I|^2, with Y all rows of the
    parameter; the part of a row's gradient that is tangent to the sphere is cut to the length ``grad_clip``.

    Args:
        params: parameters, or groups of them with values of their own for any of the following.
        lr: learning rate, >= 0.
        momentum: in [0, 1).
        weight_decay: of groups that are not on the sphere.
        grassmann: is the group on the sphere?
        omega: weight of the orthogonality regulariser, on the sphere.
        grad_clip: greatest length of a row's gradient, on the sphere; None: any.
        reset_on_lr_change: forget momentum and moments in every step whose learning rate is not that of the step before, as the
            authors' PyTorch code does by making a new optimiser. Under a schedule that never rests they do not outlive a step.
        own: defaults of what a subclass has beside these.

    Gradients are left as they are, and no step waits for the device. State is of the parameter's dtype and memory format.

    Raises:
        ValueError: for a value out of range, or a parameter on the sphere without rows.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        grassmann: bool = False,
        omega: float = 0.1,
        grad_clip: float | None = 0.1,
        reset_on_lr_change: bool = False,
        own: dict[str, object] | None = None,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "grassmann": grassmann,
            "omega": omega,
            "grad_clip": grad_clip,
            "reset_on_lr_change": reset_on_lr_change,
            "last_lr": None,
        }
        super().__init__(params, defaults | (own or {}))

    @abstractmethod
    def start(self, point: Tensor) -> dict[str, object]:
        """The state of a parameter on the sphere before its first step."""

    @abstractmethod
    def move(self, point: Tensor, gradient: Tensor, state: dict[str, object], group: dict[str, object]) -> None:
        """One step of a parameter on the sphere, changing it and its state in place."""

    def add_param_group(self, param_group: dict[str, object]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for name in ("lr", "weight_decay", "omega"):
            if not group[name] >= 0:
                raise ValueError(f"{name}={group[name]}: must be >= 0")
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum={group['momentum']}: must be in [0, 1)")
        if group["grad_clip"] is not None and not group["grad_clip"] > 0:
            raise ValueError(f"grad_clip={group['grad_clip']}: must be > 0, or None")
        if group["grassmann"]:
            for parameter in group["params"]:
                _put_on_sphere(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
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
            gradients if decay else [gradient.clone() for gradient in gradients],  # torch adds to them where nothing decays
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
    with torch.autocast(point.device.type, enabled=False):
        kernel = rows @ rows.mT
        kernel.diagonal().sub_(1)
        result = torch.addmm(slopes, kernel, rows, alpha=2 * omega)
    return result.view(point.permute(order).shape).permute([order.index(axis) for axis in range(point.dim())])


def descent(point: Tensor, gradient: Tensor, grad_clip: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """The part of every row's gradient tangent to the sphere, its length, and the factor that cuts it to ``grad_clip``."""
    axes = within_rows(point)
    tangent = project(point, gradient, axes)
    size = length(tangent, axes)
    return tangent, size, torch.ones_like(size) if grad_clip is None else (grad_clip / size).clamp_(max=1)


def within_rows(point: Tensor) -> tuple[int, ...]:
    """The axes that make up a row."""
    return tuple(range(1, point.dim()))


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all of them in turn. On a processor they are as many as its cache holds through a step, which then waits
    for memory once and not for every operation; on other devices all rows.
    """
    first = tensors[0]
    rows = max(1, BLOCK // first.shape[1:].numel()) if first.device.type == "cpu" else len(first)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def with_momentum(parameter: Tensor) -> dict[str, object]:
    return {"momentum_buffer": torch.zeros_like(parameter)}


@torch.no_grad()
def _put_on_sphere(parameter: Tensor) -> None:
    if parameter.dim() < 2:
        raise ValueError(f"grassmann=True: a parameter of shape {tuple(parameter.shape)} has no rows")
    size = length(parameter, within_rows(parameter))
    parameter.copy_(torch.where(size > 0, parameter / size, parameter.shape[1:].numel() ** -0.5))
