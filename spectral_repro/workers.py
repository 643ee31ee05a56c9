"""Worker processes for a part of the work of a command."""

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item", bound=Hashable)
Value = TypeVar("Value")
Mapper = Callable[[Callable[[Item], Value], Iterable[Item]], Iterable[Value]]  # used like the built-in map


@contextmanager
def workers(module: str) -> Iterator[Mapper[Any, Any]]:
    """A map that runs in one process per core. The work starts at once, on the items as they are then; whoever takes a value
    waits for it.

    The processes are forked from a fresh process (forkserver), which imports ``module`` while this one continues. They are
    spawned if the system has no forkserver, but never forked from this process, whose locks could block them. With one core, if
    no process can be started, or if one is killed, this process does the work.

    Args:
        module: name of the module that the work needs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    executor = _executor(cores, module) if cores > 1 else None
    if executor is None:
        yield map
        return

    def mapper(function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
        items = list(items)
        packed = [pickle.dumps((function, item)) for item in items]  # the executor does it in a thread, while items may change
        try:
            values = executor.map(_call, packed)
        except (OSError, EOFError, BrokenProcessPool):  # from the start of a process
            return map(function, items)
        return _finished_here(values, function, items)

    with executor:
        yield mapper


def _executor(cores: int, module: str) -> ProcessPoolExecutor | None:
    """Worker processes that import a module; None on a system that cannot start any."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    try:
        executor = ProcessPoolExecutor(cores, context, _begin, (dict(os.environ),))
        if method == "forkserver":
            from multiprocessing import forkserver  # which not every system has

            forkserver.set_forkserver_preload([module])
            forkserver.ensure_running()  # starts the import; a task would wait for its end
    except (OSError, ImportError, NotImplementedError):  # a system without semaphores
        return None
    return executor


def _call(packed: bytes) -> Any:
    function, item = pickle.loads(packed)
    return function(item)


def _finished_here(values: Iterator[Value], function: Callable[[Item], Value], items: list[Item]) -> Iterator[Value]:
    """The values of the workers and, if one of them is killed, those of the remaining items from this process."""
    done = 0
    try:
        for value in values:
            yield value
            done += 1
    except BrokenProcessPool:
        yield from map(function, items[done:])


def _begin(environment: dict[str, str]) -> None:
    """Gives a worker the environment of the command, and lets it ignore Ctrl-C, so that only the command ends it."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # imported objects are not searched for garbage, which would take a tenth of the time of a figure
