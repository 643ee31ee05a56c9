"""One run in several processes, as torchrun starts them: each does what a single one would do, with its part of every batch.

All of them hold the same state at any step. Only the main process writes files and prints.
"""

import atexit
import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spectral_repro.layers.replicas import rank, replicas, synchronise


def join() -> None:
    """Initialises the process group that torchrun has prepared, once in a process; does nothing without torchrun."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(dist.destroy_process_group)
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def is_main_process() -> bool:
    """Is this the process that writes files and prints?"""
    return rank() == 0


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process. The processes wait for each other, but not for the device."""
    if replicas() == 1:
        return flag
    flags = torch.tensor(flag, dtype=torch.int)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def summed(x: Tensor) -> Tensor:
    """The sum over the processes, which takes the place of ``x``."""
    if replicas() > 1:
        dist.all_reduce(x)
    return x


def first_over_ranks(value: object) -> object:
    """The value of the lowest rank that has one other than None; None if no rank has."""
    if replicas() == 1:
        return value
    values = [None] * replicas()
    dist.all_gather_object(values, value)
    return next((value for value in values if value is not None), None)


def replicated(model: nn.Module) -> nn.Module:
    """The network as a training calls it: weights and buffers begin as those of the first process, statistics are those of the
    whole batch, gradients are averaged.
    """
    return DistributedDataParallel(synchronise(model)) if replicas() > 1 else model
