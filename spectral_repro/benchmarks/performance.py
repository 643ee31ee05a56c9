"""suite=performance: is everything as fast as it can be on this machine?"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from tqdm import tqdm

from spectral_repro.benchmarks.clock import race
from spectral_repro.benchmarks.contests import Contest
from spectral_repro.benchmarks.scaling import Scaling
from spectral_repro.benchmarks.sections import Measurement, Section, short
from spectral_repro.errors import first_line

NOTE = (
    "Ratios of medians of interleaved rounds within one process: forward and backward pass, or a step, each right after a run "
    "that is not timed. References are the plain algorithms, written from their definitions."
)


@dataclass(frozen=True)
class Performance:
    """What to measure, and how much of it.

    Args:
        contests: by name; each of the device and the options of that name.
        options: of the contests that are held.
        scaling: the layers whose time and memory are followed over sizes.
        seconds, rounds: for each contest; see `race`.
        device, seed: where, and which random numbers.
    """

    contests: Mapping[str, Callable[..., Contest]]
    options: Mapping[str, Mapping[str, object]]
    scaling: Scaling
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> Measurement:
        torch.manual_seed(self.seed)
        held, failures = [], []
        for name in tqdm(self.options, "performance", disable=None):
            try:
                held.append(self.held(name))
            except RuntimeError as error:  # a compiler that is not there, memory: the others are worth having
                failures.append(f"{name} failed: {first_line(error)}.")
        aims, times = (pd.concat(frames, ignore_index=True) for frames in zip(*held, strict=True))
        scaled = self.scaling.measure(self.device)
        caption = " ".join([f"{int(aims['met'].sum())} of {len(aims)} aims are met.", *failures])
        table = Section("performance", "What it costs", caption, table=texts(aims))
        numbers = {"performance": aims, "times": times, "scaling": scaled}
        return Measurement("At the machine's limit", [NOTE], numbers, [table, *self.scaling.sections(scaled)])

    def held(self, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A row for each aim of a contest, and one for each of its jobs."""
        contest = self.contests[name](device=self.device, **self.options[name])
        frame = race(contest.jobs, self.device, 0 if contest.rounds else self.seconds, contest.rounds or self.rounds)
        times = frame.set_index("name")["total_ms"].to_dict()
        sums = {key: sum(factor * times[job] for job, factor in parts.items()) for key, parts in contest.sums.items()}
        times |= sums
        rows = [
            {
                "contest": name,
                "what": aim.what,
                "target": f"{'≥' if aim.faster else '≤'} {aim.target:g}",
                "reached": aim.reached(times),
                "ms": times[aim.of],
                "beside_ms": times[aim.beside],
                "met": aim.met(times),
            }
            for aim in contest.aims
        ]
        contest.clean()
        del contest
        gc.collect()
        return pd.DataFrame(rows), frame.assign(contest=name)


def texts(aims: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "what": aims["what"],
            "target": aims["target"],
            "reached": aims["reached"].map(lambda value: f"{value:.3g}"),
            "ms": aims["ms"].map(short),
            "beside (ms)": aims["beside_ms"].map(short),
            "met": aims["met"].map({True: "yes", False: "no"}),
        }
    )
