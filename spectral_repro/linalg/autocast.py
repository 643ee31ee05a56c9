"""Keeping spectral computations out of autocast."""

from collections.abc import Callable
from functools import wraps

import torch


def in_full_precision(method: Callable) -> staticmethod:
    """Makes a forward or backward method of an autograd function run outside autocast, wherever it is called from."""

    @staticmethod
    @wraps(method)
    def run(ctx, tensor, *arguments):
        with torch.autocast(tensor.device.type, enabled=False):
            return method(ctx, tensor, *arguments)

    return run
