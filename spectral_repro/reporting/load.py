"""Loads runs from run folders, and from the runs.csv and curves.csv of a report, as objects or pandas frames."""

import glob
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_repro.errors import UserError, in_one_line
from spectral_repro.records import check_evaluation, check_summary, finite
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.runs import COLUMNS, SPECTRA_COLUMNS, STATES, Damage, Run, read_runs

WHOLE = ("identity", "summary", "evaluation")  # JSON columns that a run is read from
SUMMARY = ("wall_time_s", "images_per_second", "started", "device", "threads")
PLACES = ("results/runs", "results/*/runs.csv")


def tidy(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run.

    Columns: run (its folder), state, scale, seed, paper; every value that determines the result, by dotted key (empty if a run
    does not have it); epoch, the last one; every measured metric, accuracies in percent; wall_time_s, images_per_second,
    started, device, threads, commit.
    """
    return pd.DataFrame([_row(run) for run in runs])


def tidy_curves(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run and epoch (for a study: each layer or width), with the columns run and those of metrics.csv."""
    frames = [run.metrics.assign(run=run.folder) for run in runs if run.whole]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run"])
    return frame[["run", *frame.columns.drop("run")]]


def _row(run: Run) -> dict[str, Any]:
    measured = {name: metric.of(run.metrics) for name, metric in METRICS.items() if metric.column in run.metrics}
    git = run.summary.get("git") or {}
    return {
        "run": run.folder,
        "state": run.state,
        "scale": run.scale,
        "seed": run.seed,
        "paper": run.paper,
        **{
            key: json.dumps(value) if isinstance(value, list) else value for key, value in run.identity.items() if key != "seed"
        },
        "epoch": run.metrics["epoch"].max() if "epoch" in run.metrics else None,
        **{name: value for name, value in measured.items() if not pd.isna(value)},
        "largest_gradient": run.largest_gradient,
        "smallest_gap": run.smallest_gap,
        **{key: run.summary.get(key) for key in SUMMARY},
        "commit": git.get("commit"),
    }


def write_archive(runs: list[Run]) -> dict[str, bytes]:
    """The files runs.csv and curves.csv of these runs."""
    kept = pd.DataFrame(
        [
            {"run": run.folder, "scale": run.scale} | {key: json.dumps(finite(getattr(run, key))) for key in WHOLE}
            for run in runs
        ]
    )
    shown = tidy(runs)
    frame = shown.join(kept[list(WHOLE)])
    return {
        "runs.csv": frame.to_csv(index=False).encode(),
        "curves.csv": tidy_curves(runs).to_csv(index=False, float_format="%.6g").encode(),
    }


def read_archive(path: Path) -> list[Run]:
    """The runs in runs.csv, with their epochs from curves.csv in the same folder.

    A run that is not in curves.csv has only its last row of metrics, or none if it ended before its first epoch.

    Raises:
        OSError, ValueError, KeyError: if one of the two files is damaged.
    """
    frame = _read_csv(path)
    curves = path.with_name("curves.csv")
    by_run = _by_run(_read_csv(curves)) if curves.exists() else {}
    return [_run(row, by_run.get(row["run"])) for row in frame.to_dict("records")]


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise ValueError(f"{path.name} is no table: {error}") from error


def _by_run(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each run, with the columns in which it has values."""
    names = curves.columns.drop("run")
    values, known = curves[names].to_numpy(float), curves[names].notna().to_numpy()
    own = {run: (values[rows], known[rows].any(axis=0)) for run, rows in curves.groupby("run", sort=False).indices.items()}
    return {run: pd.DataFrame(rows[:, has], columns=names[has]) for run, (rows, has) in own.items()}


def _run(row: dict[str, Any], curve: pd.DataFrame | None) -> Run:
    identity, summary, evaluation = (_read_json(row, key) for key in WHOLE)
    summary, evaluation = check_summary(summary), check_evaluation(evaluation)
    if summary.get("state") not in STATES:
        raise ValueError(f"the summary of {row['run']} has no state among {', '.join(STATES)}")
    if curve is not None:
        metrics = curve
    elif pd.isna(row.get("epoch")):
        metrics = pd.DataFrame()
    else:
        known = ("epoch", *METRICS, "largest_gradient", "smallest_gap")
        metrics = pd.DataFrame([{key: row[key] for key in known if not pd.isna(row.get(key))}])
    if "epoch" in metrics or metrics.empty:
        metrics = metrics.reindex(columns=[*COLUMNS, *metrics.columns.difference(COLUMNS, sort=False)])
    spectra = pd.DataFrame(columns=SPECTRA_COLUMNS)
    return Run(row["run"], identity, row["scale"], metrics.astype(float), summary, evaluation, spectra)


def _read_json(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = finite(json.loads(str(row[key])))
    if not isinstance(value, dict):
        raise ValueError(f"the {key} of {row['run']} is no JSON object")
    return value


def read_places(places: Iterable[str], made_by: str) -> tuple[list[Run], list[str]]:
    """All runs in these places, without duplicates, and a notice for everything left out, of type `Damage` if it is damaged.

    Args:
        places: folders of run folders, runs.csv files of reports, or patterns of them. A run folder takes precedence over the
            same run in a file.
        made_by: the command that makes runs, for the error.

    Raises:
        UserError: if none of the places exists.
    """
    places = tuple(places)
    paths = [Path(path) for place in places for path in _matching(place)]
    runs: dict[str, Run] = {}
    notices: list[str] = []
    for folder in (path for path in paths if path.is_dir()):
        found, remarks = read_runs(folder, made_by)
        runs |= {run.id: run for run in found if run.id not in runs}
        notices += remarks
    for file in (path for path in paths if path.is_file()):
        try:
            runs |= {run.id: run for run in read_archive(file) if run.id not in runs}
        except Exception as error:  # any damage; the other places do not depend on it
            expected = isinstance(error, OSError | ValueError | KeyError)
            cause = error if expected else in_one_line(error)
            notices.append(Damage(f"{file}: left out, not the runs.csv of a report ({cause})"))
    if not any(path.exists() for path in paths):
        raise UserError(f"runs={','.join(places)}: no such folder; runs are made by {made_by}")
    return list(runs.values()), notices


def _matching(place: str) -> list[str]:
    """The place itself if it exists, or else the paths that match it as a pattern."""
    return [place] if os.path.lexists(place) else sorted(glob.glob(place)) or [place]


def load_runs(*places: str | Path) -> pd.DataFrame:
    """Loads runs as a frame with a row for each run: configuration, metrics, machine; see `tidy`.

    Args:
        places: folders of run folders, runs.csv files, or patterns of them; by default ``results/runs`` and
            ``results/*/runs.csv``.

    Returns:
        A row for each run.

    Raises:
        UserError: if none of the places exists.

    Example:
        >>> runs = load_runs("results/quickstart/runs.csv")
        >>> runs[runs["norm._target_"] == "torch.nn.BatchNorm2d"].seed.tolist()
        [0, 1]
    """
    return tidy(_loaded(places))


def load_curves(*places: str | Path) -> pd.DataFrame:
    """Loads the epochs of runs as a frame with a row for each run and epoch; see `tidy_curves` and `load_runs`.

    Args:
        places: see `load_runs`.

    Returns:
        A row for each run and epoch.

    Example:
        >>> curves = load_curves("results/quickstart/runs.csv")
        >>> int(curves.epoch.max())
        20
    """
    return tidy_curves(_loaded(places))


def _loaded(places: tuple[str | Path, ...]) -> list[Run]:
    runs, notices = read_places(map(str, places or PLACES), "python -m spectral_repro.train")
    for notice in notices:
        warnings.warn(notice, stacklevel=3)
    return runs
