"""What autograd functions share: they run outside autocast, and say so where they cannot be differentiated again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from inspect import signature

import torch
from torch import Tensor


def full_precision(device: torch.device) -> AbstractContextManager:
    """A context without autocast, on any device: on those that have no autocast, such as "meta", it does nothing.

    Example:
        >>> with full_precision(matrix.device):
        ...     root = matrix @ matrix
    """
    return torch.autocast(device.type, enabled=False) if _in_autocast(device) else nullcontext()


def in_full_precision(method: Callable) -> staticmethod:
    """Makes a forward, backward or jvp method of an autograd function run outside autocast, wherever it is called from."""

    @wraps(method)
    def run(*arguments):
        device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
        if not _in_autocast(device):
            return method(*arguments)
        with torch.autocast(device.type, enabled=False):
            return method(*arguments)

    run.__signature__ = signature(method)  # torch asks for it at every call, which takes longer than a small product
    return staticmethod(run)


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
    return _Once.apply(gradient, reason, *sources)


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient, reason, *sources):
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.reason = inputs[1]

    @staticmethod
    def backward(ctx, incoming):
        raise NotImplementedError(ctx.reason)

    @staticmethod
    def jvp(ctx, *tangents):
        raise NotImplementedError(ctx.reason)
