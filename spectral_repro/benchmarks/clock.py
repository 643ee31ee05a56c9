"""Times of several jobs, measured in turn so that whatever the machine does meanwhile hits all of them alike."""

from collections.abc import Callable, Mapping
from time import perf_counter

import pandas as pd
import torch

Job = Callable[[], Callable[[], object]]  # runs the forward pass; what it returns runs the backward pass


def race(
    jobs: Mapping[str, Job], device: torch.device, seconds: float, least: int, most: int = 100, warm_up: bool = True
) -> pd.DataFrame:
    """Times of every job. A round runs each of them once.

    Args:
        seconds: rounds go on for so long, but at least ``least`` and at most ``most`` of them.
        warm_up: one more round before the first.

    Returns:
        A row for each job: name; medians forward_ms, backward_ms, total_ms; quartiles total_low_ms, total_high_ms; rounds.
    """
    for job in jobs.values() if warm_up else ():
        _once(job, device)
    rounds, start = [], perf_counter()
    while len(rounds) < least or (len(rounds) < most and perf_counter() - start < seconds):
        rounds.append({name: _once(job, device) for name, job in jobs.items()})
    return pd.DataFrame([{"name": name} | _summary([times[name] for times in rounds]) for name in jobs])


def _once(job: Job, device: torch.device) -> tuple[float, float]:
    times = [_now(device)]
    backward = job()
    times.append(_now(device))
    backward()
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
