"""suite=performance: times of layers, optimisers, batches and the trainer, compared with reference computations."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from spectral_repro.benchmarks.clock import time_interleaved
from spectral_repro.benchmarks.comparisons import Comparison
from spectral_repro.benchmarks.machine import processor, short_name
from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.benchmarks.scaling import Scaling
from spectral_repro.errors import UserError, first_line

NOTE = (
    "Ratios of medians of interleaved rounds in one process: forward and backward pass, or a step, each timed right after an "
    'untimed run. Freed memory stays in the process, as in the trainer, except in lines with "memory given back". References '
    "are the plain algorithms, written from their definitions."
)
MOVED = 1.3


@dataclass(frozen=True)
class Performance:
    """What to measure, and how much of it.

    Args:
        comparisons: functions of a device and options, by name.
        options: by name, of the comparisons to measure.
        scaling: measures how time and memory grow with size.
        against: an earlier performance_*.csv, with whose ratios the new ones are compared; None: no comparison.
        seconds, rounds: how long, and at least how often, each comparison is timed; see `time_interleaved`.
        device: where it is measured.
        seed: of the random numbers.

    Raises:
        UserError: if ``against`` is no table of this suite.
    """

    comparisons: Mapping[str, Callable[..., Comparison]]
    options: Mapping[str, Mapping[str, Any]]
    scaling: Scaling
    against: str | None
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        earlier = None if self.against is None else read_ratios(self.against)
        torch.manual_seed(self.seed)
        held, failures = [], []
        for name in tqdm(self.options, "performance", disable=None):
            try:
                held.append(self.held(name))
            except RuntimeError as error:  # no compiler, or out of memory: the other comparisons still run
                failures.append(f"{name} failed: {first_line(error)}.")
        if not held:
            raise UserError(" ".join(failures))
        targets, times = (pd.concat(frames, ignore_index=True) for frames in zip(*held, strict=True))
        scaled = self.scaling.measure(self.device)
        caption = " ".join([f"{int(targets['met'].sum())} of {len(targets)} targets are met.", *failures])
        table = Display("performance", "What it costs", caption, table=texts(targets))
        numbers = {f"performance_{short_name()}": targets.assign(**processor()), "times": times, "scaling": scaled}
        displays = [table, *self.scaling.displays(scaled)]
        if earlier is not None:
            changed, compared = moved(targets, earlier), int(targets["what"].isin(earlier["what"]).sum())
            caption = f"{len(changed)} of {compared} ratios are {MOVED} times as large or small as in {self.against}."
            if others := len(targets) - compared:
                caption += f" {others} more are not in that table, so nothing is known about their change."
            displays.insert(1, Display("moved", "What has changed", caption, table=changed))
        return SuiteResult("At the machine's limit", [NOTE], numbers, displays)

    def held(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Two tables for a comparison: a row for each target, and a row for each job."""
        comparison = self.comparisons[name](device=self.device, **self.options[name])
        seconds, rounds = (0, comparison.rounds) if comparison.rounds else (self.seconds, self.rounds)
        frame = time_interleaved(comparison.jobs, self.device, seconds, rounds, keep_memory=comparison.keep_memory)
        times = frame.set_index("name")["total_ms"].to_dict()
        sums = {key: sum(factor * times[job] for job, factor in parts.items()) for key, parts in comparison.sums.items()}
        times |= sums
        numbers = times | dict(comparison.constants)
        rows = [
            {
                "comparison": name,
                "what": target.what,
                "target": f"{'≥' if target.faster else '≤'} {target.bound:g}",
                "reached": target.reached(numbers),
                "ms": times.get(target.of),
                "beside_ms": times.get(target.beside),
                "met": target.met(numbers),
            }
            for target in comparison.targets
        ]
        comparison.clean()
        del comparison
        gc.collect()
        return pd.DataFrame(rows), frame.assign(comparison=name)


def read_ratios(path: str) -> pd.DataFrame:
    """The columns what and reached of a table that this suite wrote.

    Raises:
        UserError: if there is no such table.
    """
    try:
        return pd.read_csv(path)[["what", "reached"]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"against={path}: no table of suite=performance ({first_line(error)})") from error


def moved(targets: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """The ratios that changed by more than a factor of `MOVED`, in either direction."""
    both = targets[["what", "reached"]].merge(earlier, on="what", suffixes=("", "_before"))
    both["factor"] = both["reached"] / both["reached_before"]
    both = both[(both["factor"] > MOVED) | (both["factor"] < 1 / MOVED)]
    columns = {"before": both["reached_before"], "now": both["reached"], "factor": both["factor"]}
    return pd.DataFrame({"what": both["what"]} | {key: values.map("{:.3g}".format) for key, values in columns.items()})


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
