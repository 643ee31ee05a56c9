"""Runs from wherever they lie: run folders, and what is committed of runs."""

import glob
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from spectral_repro.errors import UserError
from spectral_repro.reporting.archive import read_archive, tidy, tidy_curves
from spectral_repro.reporting.runs import Run, read_runs

PLACES = ("results/runs", "results/*/runs.csv")


def read_places(places: Iterable[str], made_by: str) -> tuple[list[Run], list[str]]:
    """Every run of these places, each once, and a line about everything that is left out.

    Args:
        places: folders of run folders, and files as the report leaves them (runs.csv); either may be a pattern. Of a run that
            lies in both, the folder counts.
        made_by: the command that makes runs, for the error.

    Raises:
        UserError: nothing is at any of them.
    """
    places = tuple(places)
    paths = [Path(path) for place in places for path in (sorted(glob.glob(place)) or [place])]
    runs, notices = {}, []
    for folder in (path for path in paths if path.is_dir()):
        found, remarks = read_runs(folder, made_by)
        runs |= {run.id: run for run in found if run.id not in runs}
        notices += remarks
    for file in (path for path in paths if path.is_file()):
        try:
            runs |= {run.id: run for run in read_archive(file) if run.id not in runs}
        except (OSError, ValueError, KeyError) as error:
            notices.append(f"{file}: left out, no runs.csv of the report ({error})")
    if not any(path.exists() for path in paths):
        raise UserError(f"runs={','.join(places)}: no such folder; runs are made by {made_by}")
    return list(runs.values()), notices


def load_runs(*places: str | Path) -> pd.DataFrame:
    """A row for each run: its configuration, what it measured, where; see `tidy`.

    Args:
        places: folders of run folders, runs.csv files, or patterns of them; by default ``results/runs`` and
            ``results/*/runs.csv``.

    Raises:
        UserError: nothing is there.
    """
    return tidy(_loaded(places))


def load_curves(*places: str | Path) -> pd.DataFrame:
    """A row for each run and epoch; see `tidy_curves` and `load_runs`."""
    return tidy_curves(_loaded(places))


def _loaded(places: tuple[str | Path, ...]) -> list[Run]:
    runs, notices = read_places(map(str, places or PLACES), "python -m spectral_repro.train")
    for notice in notices:
        warnings.warn(notice, stacklevel=3)
    return runs
