"""The base class of optimisers that use SGD for some parameter groups and another rule for the others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd


@dataclass(frozen=True)
class Range:
    """The numbers that an option of a group may be, and the words for them in a message."""

    holds: Callable[[float], bool]
    requirement: str
    optional: bool = False  # whether it may be None

    def check(self, key: str, value: object) -> None:
        if value is None and self.optional:
            return
        if not isinstance(value, Real):
            raise ValueError(f"{key}={value!r}: must be a number")
        if not self.holds(float(value)):
            raise ValueError(f"{key}={value}: {self.requirement}{', or None' if self.optional else ''}")


NOT_NEGATIVE = Range(lambda value: value >= 0, "must be >= 0")
POSITIVE = Range(lambda value: value > 0, "must be > 0")
BELOW_ONE = Range(lambda value: 0 <= value < 1, "must be in [0, 1)")


class MixedOptimizer(torch.optim.Optimizer):
    """SGD with Nesterov momentum; subclasses update some groups by another rule.

    Gradients are not changed, and no step synchronises with the device. The state has the dtype and memory format of the
    parameter.

    Args:
        params: parameters, named parameters, or groups of either with values of their own for any of the defaults.
        defaults: values for groups that do not have their own; ``lr``, ``momentum`` and ``weight_decay`` are among them.

    Raises:
        TypeError: for parameters that torch does not accept.
        ValueError: for a value out of range, and for sparse weights. No weight is changed then.
    """

    ranges: dict[str, Range] = {"lr": NOT_NEGATIVE, "momentum": BELOW_ONE, "weight_decay": NOT_NEGATIVE}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(dict(param_group) if isinstance(param_group, dict) else param_group)
        try:
            self.check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def check(self, group: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: for a group that cannot be optimised.
        """
        for key, allowed in self.ranges.items():
            allowed.check(key, group[key])
        for parameter, name in named(group):
            if parameter.layout != torch.strided:
                raise ValueError(f"{name} is sparse: only dense weights are supported")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients again.

        Returns:
            What the closure returns.

        Raises:
            ValueError: for a sparse gradient. Nothing is changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter, name in named(group):
                if parameter.grad is not None and parameter.grad.layout != torch.strided:
                    raise ValueError(f"{name} has a sparse gradient: only dense gradients are supported")
        for group in self.param_groups:
            self.update(group, [parameter for parameter in group["params"] if parameter.grad is not None])
        return loss

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """One step of the parameters of a group that have a gradient, in place."""
        decay, gradients = group["weight_decay"], gradients_of(parameters)
        sgd(
            parameters,
            gradients if decay else [gradient.clone() for gradient in gradients],  # torch changes them if nothing decays
            [self.state_of(parameter, with_momentum)["momentum_buffer"] for parameter in parameters],
            foreach=True,
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=decay,
            dampening=0,
            nesterov=group["momentum"] > 0,
            maximize=False,
        )

    def describe(self, group: dict[str, Any]) -> str:
        """The rule for the parameters of a group in a few words."""
        return f"SGD, weight decay {group['weight_decay']:g}"

    def state_of(self, parameter: Tensor, start: Callable[[Tensor], dict[str, Any]]) -> dict[str, Any]:
        """The state of a parameter; ``start`` creates it before the first step."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state.update(start(parameter))
        return state

    def table(self) -> str:
        """All parameters by rule, as text."""
        lines = []
        for group in self.param_groups:
            total = sum(parameter.numel() for parameter in group["params"])
            lines.append(f"{self.describe(group)}, learning rate {group['lr']:g}: {total:,} parameters")
            shapes = [" x ".join(map(str, parameter.shape)) for parameter in group["params"]]
            names = group.get("param_names", ["without a name"] * len(shapes))
            lines += [f"    {name:40}{shape}" for name, shape in zip(names, shapes, strict=True)]
        return "\n".join(lines)


def with_momentum(parameter: Tensor) -> dict[str, Any]:
    return {"momentum_buffer": torch.zeros_like(parameter)}


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def named(group: dict[str, Any]) -> list[tuple[Tensor, str]]:
    """The parameters of a group, each with its name for messages."""
    names = group.get("param_names")
    labels = [f"parameter {name}" for name in names] if names else ["a parameter"] * len(group["params"])
    return [(p, f"{label} of shape {tuple(p.shape)}") for p, label in zip(group["params"], labels, strict=True)]
