"""Times several jobs in turn, so that other load on the machine affects all of them alike."""

from collections.abc import Callable, Mapping
from time import perf_counter

import pandas as pd
import torch

from spectral_repro.training.environment import keep_freed, return_freed

Job = Callable[[], Callable[[], object]]  # runs the forward pass; what it returns runs the backward pass


def time_interleaved(
    jobs: Mapping[str, Job],
    device: torch.device,
    seconds: float,
    least: int,
    most: int = 100,
    warm_up: bool = True,
    keep_memory: bool = True,
) -> pd.DataFrame:
    """Times all jobs in rounds. Each round times every job once.

    Args:
        jobs: what is timed, by name.
        device: where the jobs run; a GPU is synchronised before the clock is read.
        seconds: how long rounds are repeated.
        least, most: the smallest and the largest number of rounds.
        warm_up: runs each job once, untimed, right before it is timed, so that the caches are as in a loop of this job alone.
        keep_memory: keeps freed memory in the process, as the trainer does (`keep_freed`). If False, freed memory goes back to
            the system before each warm-up, and blocks above 32 MiB as soon as they are freed, which is the default of glibc.
            Much of the time is then spent on new pages.

    Returns:
        A row for each job: name; medians forward_ms, backward_ms, total_ms; quartiles total_low_ms, total_high_ms; rounds.
    """
    keep_freed(large=keep_memory)
    rounds: list[dict[str, tuple[float, float]]] = []
    start = perf_counter()
    while len(rounds) < least or (len(rounds) < most and perf_counter() - start < seconds):
        rounds.append({name: _timed(job, device, warm_up, keep_memory) for name, job in jobs.items()})
    return pd.DataFrame([{"name": name} | _summary([times[name] for times in rounds]) for name in jobs])


def _timed(job: Job, device: torch.device, warm_up: bool, keep_memory: bool) -> tuple[float, float]:
    if warm_up:
        if not keep_memory:
            return_freed()
        _once(job, device)
    return _once(job, device)


def _once(job: Job, device: torch.device) -> tuple[float, float]:
    times = [_now(device)]
    backward = job()
    times.append(_now(device))
    backward()
    del backward  # and with it the output
    times.append(_now(device))
    return times[1] - times[0], times[2] - times[1]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _summary(times: list[tuple[float, float]]) -> dict[str, float]:
    frame = 1e3 * pd.DataFrame(times, columns=["forward", "backward"])
    total = frame.sum(axis=1)
    return {
        "forward_ms": frame["forward"].median(),
        "backward_ms": frame["backward"].median(),
        "total_ms": total.median(),
        "total_low_ms": total.quantile(0.25),
        "total_high_ms": total.quantile(0.75),
        "rounds": len(frame),
    }
