"""One run in several processes, started by torchrun or srun. Each process works on its part of every batch.

All of them hold the same state at any step. Only the main process writes files and prints.
"""

import atexit
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spectral_repro.errors import UserError, first_line
from spectral_repro.layers.replicas import rank, replicas, synchronise


def join() -> None:
    """Initialises the process group of processes started together by torchrun or srun; does nothing otherwise.

    Raises:
        UserError: if their variables in the environment are not complete, or the processes do not find each other.
    """
    if dist.is_initialized():
        return
    try:
        if not dist.is_torchelastic_launched():
            if not (task := slurm_task(os.environ)):
                return
            os.environ.update(task)
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    except (KeyError, ValueError, IndexError, AttributeError, dist.DistError) as error:
        raise UserError(
            f"the environment variables of torchrun or Slurm are incomplete or wrong ({type(error).__name__}: "
            f"{first_line(error)}): start all processes by torchrun or srun, or unset SLURM_STEP_ID for a single process"
        ) from error
    atexit.register(dist.destroy_process_group)
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def slurm_task(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that torchrun would set, for a task that srun started together with others; empty for any other
    process, such as a batch script. ``MASTER_ADDR`` and ``MASTER_PORT`` are kept if they are set.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "1")
    if "SLURM_STEP_ID" not in environment or int(tasks) == 1:
        return {}

    def of_the_step(name: str) -> str:
        return environment.get(f"SLURM_STEP_{name}") or environment.get(f"SLURM_JOB_{name}") or environment[f"SLURM_{name}"]

    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    here = tasks_by_node(of_the_step("TASKS_PER_NODE"))[int(environment.get("SLURM_NODEID", 0))]
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": tasks,
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(here),
        "MASTER_ADDR": environment.get("MASTER_ADDR") or first_node(of_the_step("NODELIST")),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(20_000 + (job + step) % 20_000),
    }


def first_node(nodes: str) -> str:
    """The first name of a Slurm list of nodes: gpu07 of "gpu[07-09,12],login"."""
    (first,) = re.findall(r"^([^,\[]*)(?:\[([^],-]*)[^]]*\])?([^,]*)", nodes)
    return "".join(first)


def tasks_by_node(counts: str) -> list[int]:
    """The number of tasks on each node from Slurm's text: 2, 2, 2, 1 of "2(x3),1"."""
    pairs = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
    return [int(count) for count, repeats in pairs for _ in range(int(repeats or 1))]


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process. Synchronises the processes, but not with the device."""
    if replicas() == 1:
        return flag
    flags = torch.tensor(flag, dtype=torch.int)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def summed(x: Tensor) -> Tensor:
    """The sum over the processes, in place."""
    if replicas() > 1:
        dist.all_reduce(x)
    return x


def first_over_ranks(value: Any) -> Any:
    """The value of the lowest rank that has one other than None; None if no rank has."""
    return next((each for each in of_all_ranks(value) if each is not None), None)


def of_all_ranks(value: Any) -> list[Any]:
    """The values of all ranks, in their order."""
    if replicas() == 1:
        return [value]
    values: list[Any] = [None] * replicas()
    dist.all_gather_object(values, value)
    return values


def replicated(model: nn.Module) -> nn.Module:
    """Wraps the network for several processes: all start with the weights and buffers of the first one, statistics are those of
    the whole batch, and gradients are averaged.
    """
    return DistributedDataParallel(synchronise(model)) if replicas() > 1 else model
