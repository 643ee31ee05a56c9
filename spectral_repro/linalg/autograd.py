"""Helpers for autograd functions: run them outside autocast, and raise an error where they are differentiated twice."""

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
    """A context that disables autocast. It does nothing on a device without autocast, such as "meta".

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

    # torch asks for the signature at every call; working it out again takes longer than a small product
    run.__signature__ = signature(method)  # type: ignore[attr-defined]
    return run


def _in_autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def differentiable_once(gradient: Tensor, reason: str, *sources: Tensor) -> Tensor:
    """Returns the gradient unchanged; to differentiate it again with respect to one of its sources raises an error.

    Without this, autograd would treat a gradient computed from saved tensors as a constant, and second derivatives would be 0.

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
    def backward(ctx: Any, grad_output: Tensor) -> NoReturn:
        raise NotImplementedError(ctx.reason)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        raise NotImplementedError(ctx.reason)
