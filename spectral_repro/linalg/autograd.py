"""What autograd functions share: they run outside autocast, and say so where they cannot be differentiated again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from inspect import signature
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast, on any device: on those that have no autocast, such as "meta", it does nothing.

    Example:
        >>> with full_precision(matrix.device):
        ...     root = matrix @ matrix
    """
    return torch.autocast(device.type, enabled=False) if _in_autocast(device) else nullcontext()


def in_full_precision(method: Callable[P, R]) -> Callable[P, R]:
    """Makes a static method of an autograd function (forward, backward or jvp) run outside autocast, wherever it is called."""

    @wraps(method)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
        if not _in_autocast(device):
            return method(*arguments, **named)
        with torch.autocast(device.type, enabled=False):
            return method(*arguments, **named)

    # torch asks for the signature at every call; working it out anew takes longer than a small product
    run.__signature__ = signature(method)  # type: ignore[attr-defined]
    return run


def _in_autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def differentiable_once(gradient: Tensor, reason: str, *sources: Tensor) -> Tensor:
    """The gradient as it is. To differentiate it again, with respect to any of the sources it was computed from, is an error.

    Without this, a gradient that was computed from saved tensors would count as a constant, and second derivatives as zero.

    Args:
        gradient: a tensor.
        reason: the message of the error.
        sources: the tensors that the gradient depends on.

    Raises:
        NotImplementedError: in a later backward or forward-mode pass through the result, with the reason as its message.
    """
    result: Tensor = _Once.apply(gradient, reason, *sources)
    return result


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, reason: str, *sources: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.reason = inputs[1]

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> NoReturn:
        raise NotImplementedError(ctx.reason)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        raise NotImplementedError(ctx.reason)
