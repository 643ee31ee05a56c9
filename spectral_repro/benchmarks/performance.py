"""suite=performance: is everything as fast as it can be on this machine?"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from spectral_repro.benchmarks.clock import time_interleaved
from spectral_repro.benchmarks.comparisons import Comparison
from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.benchmarks.scaling import Scaling
from spectral_repro.errors import first_line

NOTE = (
    "Ratios of medians of interleaved rounds within one process: forward and backward pass, or a step, each right after a run "
    "that is not timed. References are the plain algorithms, written from their definitions."
)


@dataclass(frozen=True)
class Performance:
    """What to measure, and how much of it.

    Args:
        comparisons: by name; each of the device and the options of that name.
        options: of the comparisons that are held.
        scaling: the layers whose time and memory are followed over sizes.
        seconds, rounds: for each comparison; see `time_interleaved`.
        device, seed: where, and which random numbers.
    """

    comparisons: Mapping[str, Callable[..., Comparison]]
    options: Mapping[str, Mapping[str, Any]]
    scaling: Scaling
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        torch.manual_seed(self.seed)
        held, failures = [], []
        for name in tqdm(self.options, "performance", disable=None):
            try:
                held.append(self.held(name))
            except RuntimeError as error:  # a compiler that is not there, memory: the others are worth having
                failures.append(f"{name} failed: {first_line(error)}.")
        targets, times = (pd.concat(frames, ignore_index=True) for frames in zip(*held, strict=True))
        scaled = self.scaling.measure(self.device)
        caption = " ".join([f"{int(targets['met'].sum())} of {len(targets)} targets are met.", *failures])
        table = Display("performance", "What it costs", caption, table=texts(targets))
        numbers = {"performance": targets, "times": times, "scaling": scaled}
        return SuiteResult("At the machine's limit", [NOTE], numbers, [table, *self.scaling.displays(scaled)])

    def held(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A row for each target of a comparison, and one for each of its jobs."""
        comparison = self.comparisons[name](device=self.device, **self.options[name])
        frame = time_interleaved(
            comparison.jobs, self.device, 0 if comparison.rounds else self.seconds, comparison.rounds or self.rounds
        )
        times = frame.set_index("name")["total_ms"].to_dict()
        sums = {key: sum(factor * times[job] for job, factor in parts.items()) for key, parts in comparison.sums.items()}
        times |= sums
        rows = [
            {
                "comparison": name,
                "what": target.what,
                "target": f"{'≥' if target.faster else '≤'} {target.bound:g}",
                "reached": target.reached(times),
                "ms": times[target.of],
                "beside_ms": times[target.beside],
                "met": target.met(times),
            }
            for target in comparison.targets
        ]
        comparison.clean()
        del comparison
        gc.collect()
        return pd.DataFrame(rows), frame.assign(comparison=name)


def texts(targets: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "what": targets["what"],
            "target": targets["target"],
            "reached": targets["reached"].map(lambda value: f"{value:.3g}"),
            "ms": targets["ms"].map(short),
            "beside (ms)": targets["beside_ms"].map(short),
            "met": targets["met"].map({True: "yes", False: "no"}),
        }
    )
