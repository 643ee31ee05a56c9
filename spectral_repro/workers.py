"""Worker processes for a part of the work of a command."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item", bound=Hashable)
Value = TypeVar("Value")
Mapper = Callable[[Callable[[Item], Value], Sequence[Item]], Iterable[Value]]  # used like the built-in map


@contextmanager
def workers(module: str) -> Iterator[Mapper[Any, Any]]:
    """A map that runs in one process per core.

    The processes import ``module`` while this one continues. They are forked from a fresh process (forkserver), or spawned if
    the system has no forkserver, but never forked from this process, whose locks could block them. If no process can be
    started, or one is killed, this process does the work.

    Args:
        module: name of the module that the processes import first.
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
    """Gives a worker the environment of the command, and lets it ignore Ctrl-C, so that only the command ends it."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # imported objects are not searched for garbage, which would take a tenth of the time of a figure
