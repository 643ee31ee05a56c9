"""The table that a sweep prints at its end, and the command for its page."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.identity import digest, identity, pinned
from spectral_repro.errors import UserError, first_line
from spectral_repro.reporting.comparison import REPORT, compare, in_a_list, report_command
from spectral_repro.reporting.load import RUNS_FILE
from spectral_repro.reporting.runs import Run, read_run
from spectral_repro.reporting.tables import markdown


def closing_table(jobs: Sequence[JobReturn]) -> str:
    """A row for each combination of values that differ between the jobs, except the seed, and the command for its page.

    Each data set and each scale has its own table.
    """
    runs = list({run.id: run for run in map(run_of, jobs)}.values())
    if not runs:
        return ""
    config: Any = jobs[0].cfg
    if paper := OmegaConf.select(config, "paper.name"):
        earlier = Path("results", paper, RUNS_FILE)
        places = f"[{in_a_list(config.results_dir)},{in_a_list(str(earlier))}]" if earlier.exists() else config.results_dir
        command = shlex.join([*REPORT, f"paper={paper}", f"runs={places}"])
    else:
        command = report_command(runs, config.results_dir)
    return "\n".join(["", *map(markdown, compare(runs).sections), f"The page of it: {command}"])


def run_of(job: JobReturn) -> Run:
    """The run of a job, read from its folder. If the job failed before it had a folder, the run has only a configuration."""
    config: Any = job.cfg
    try:
        values = identity(pinned(config))
    except UserError:  # such as a missing folder of images; the job failed too
        values = identity(config)
    for folder in Path(config.results_dir).expanduser().glob(f"*-{digest(values)}"):
        try:
            return read_run(folder)
        except Exception:  # incomplete or damaged; the configuration of the job is used instead
            pass
    return _without_folder(job, config, values)


def _without_folder(job: JobReturn, config: DictConfig, values: dict[str, Any]) -> Run:
    state, failure = "interrupted", None
    if job.status == JobStatus.FAILED:
        state, failure = "failed", {"error": first_line(job._return_value)}
    summary = {"state": state, "failure": failure, "id": digest(values)}
    return Run("", values, config.scale.name, pd.DataFrame(), summary, {}, pd.DataFrame(), ())
