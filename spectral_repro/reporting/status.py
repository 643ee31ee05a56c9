"""The progress of all runs."""

import time
from collections import Counter
from pathlib import Path

from spectral_repro.reporting.papers import TRAIN
from spectral_repro.reporting.runs import Run, read_runs
from spectral_repro.reporting.tables import text
from spectral_repro.training.files import holder
from spectral_repro.training.loggers import clock

KILLED = "killed"  # state of a run whose summary says running, but whose process is gone


def status(root: Path) -> tuple[str, list[str]]:
    """A line for each run in the folders of ``root`` with its state, progress, remaining time, metric and name, and a summary.

    The remaining time is estimated from the steps so far.

    Returns:
        The lines as a text, and the notices of `read_runs`.

    Raises:
        UserError: if there is no such folder.
    """
    runs, notices = read_runs(root, made_by=" ".join(TRAIN))
    states = {run.folder: state(run, root) for run in runs}
    lines = [line(run, states[run.folder], root) for run in runs]
    counts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(states.values()).items()))
    return "\n".join([*lines, f"{len(runs)} runs: {counts}" if runs else f"no runs in {root}"]), notices


def state(run: Run, root: Path) -> str:
    abandoned = run.state == "running" and holder(root / run.folder / "lock") is None
    return KILLED if abandoned else run.state


def line(run: Run, state: str, root: Path) -> str:
    done, final = part_done(run), run.summary.get("final") or {}
    left = clock(time_left(run, done, root)) if state == "running" and done else ""
    return f"{state:<11} {100 * done:5.1f} %  {left:>10}  {metric(final):<22}  {run.folder}"


def metric(final: dict[str, float | None]) -> str:
    """The test accuracy in the last row of metrics.csv; for a study its first value."""
    if "test_accuracy" in final:
        return f"test accuracy {text(final['test_accuracy'], '.2f')} %"
    return "".join(f"{name} {text(value, '.4g')}" for name, value in list(final.items())[1:2])


def part_done(run: Run) -> float:
    if run.state == "finished":
        return 1.0
    return run.summary.get("steps", 0) / (run.summary.get("total_steps") or float("inf"))


def time_left(run: Run, done: float, root: Path) -> float:
    since = time.time() - (root / run.folder / "summary.json").stat().st_mtime
    return max(run.summary.get("wall_time_s", 0.0) * (1 - done) / done - since, 0.0)
