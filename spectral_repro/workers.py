"""Other processes that take a part of a command's work."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)
Value = TypeVar("Value")
Mapper = Callable[[Callable[[Item], Value], Sequence[Item]], Iterable[Value]]  # as the built-in map


@contextmanager
def workers(module: str) -> Iterator[Mapper]:
    """A map that gives its items to other processes, one for each core.

    The processes import ``module`` while this one goes on. They are copies of one that has done nothing else (forkserver), or
    new ones where the system has no such copies. They are never copies of this process, whose threads and locks could hold them
    up. Where none can be started, or the system ends one of them, this process does the work.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        context.set_forkserver_preload([module])
        executor = ProcessPoolExecutor(cores, context, _begin, (dict(os.environ),))
        if cores > 1:
            executor.submit(os.getpid)  # starts the import
    except (OSError, ImportError, NotImplementedError):  # a system without semaphores
        cores = 1
    if cores == 1:
        yield map
        return

    def mapper(function: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
        items = list(items)
        try:
            return list(executor.map(function, items))
        except BrokenProcessPool:
            return list(map(function, items))

    with executor:
        yield mapper


def _begin(environment: dict[str, str]) -> None:
    """Gives a process the environment of the command, which alone ends it: Ctrl-C does not."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what is imported is not looked through for garbage, which takes a tenth of the time of a figure
