"""Requests to stop a run, and faults of the machine that end it early."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from omegaconf import DictConfig

from spectral_repro.errors import UserError, first_line, same_command

NO_MEMORY = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "Cannot allocate memory")
WORKER_KILLED = "a process that decodes images was killed, often because memory ran out"


def again(config: DictConfig) -> str:
    """How to continue a run."""
    return f"{same_command(config.get('force'))} continues from the last checkpoint"


def explain(error: Exception, config: DictConfig) -> str | None:
    """What is wrong and what to do; None for an error in the code rather than of the machine or the user."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        if "study" in config:
            return "out of memory: take smaller sizes, or fewer repeats, under study"
        size = f"dataset.batch_size={config.dataset.batch_size}"
        return f"out of memory with {size}: lower it, or model.width, or set precision=bfloat16; {again(config)}"
    if is_of_workers(error, config.dataset.get("workers", 0)):
        return f"{WORKER_KILLED}: lower dataset.workers; {again(config)}"
    if isinstance(error, OSError):
        return f"{first_line(error)}: free some space, or repair the file or its permissions; {again(config)}"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether the machine or the GPU ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in NO_MEMORY)


def is_of_workers(error: Exception, workers: int) -> bool:
    """Whether one of the processes that decode images was killed."""
    torn = isinstance(error, ConnectionError | EOFError) and workers > 0  # while it hands over a batch
    return torn or (isinstance(error, RuntimeError) and "DataLoader worker" in str(error))


class StopRequest:
    """While active, Ctrl-C, SIGTERM and SIGUSR2 only set ``asked`` to their number; a second signal acts at once.

    Only the main thread can handle signals; in other threads nothing happens.
    """

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> "StopRequest":
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2) if _in_main_thread() else ()
        self.previous: dict[int, Any] = {number: signal.signal(number, self._ask) or signal.SIG_DFL for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        signal.signal(number, self.previous[number])


@contextmanager
def ignoring_child_exits() -> Iterator[None]:
    """Ignores the end of child processes: torch's data loader raises an error in the main process for each killed one."""
    if not _in_main_thread():
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) or signal.SIG_DFL  # None stands for a handler not set by Python
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
