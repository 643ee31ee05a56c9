"""Runs as two tables: what is committed of them, and what people read with pandas."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.runs import COLUMNS, SPECTRA_COLUMNS, Run

WHOLE = ("identity", "summary", "evaluation")  # columns of JSON, from which a run is read again
SUMMARY = ("wall_time_s", "images_per_second", "started", "device", "threads")


def tidy(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run.

    Columns: run (its folder), state, scale, seed, paper; every value that decides its result, by dotted key (empty where a run
    has none); epoch, the last one; every metric that it has, accuracies in percent; wall_time_s, images_per_second, started,
    device, threads, commit.
    """
    return pd.DataFrame([_row(run) for run in runs])


def tidy_curves(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run and epoch (of a study: for each layer or width), with the columns of its metrics.csv after `run`."""
    frames = [run.metrics.assign(run=run.folder) for run in runs if run.whole]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run"])
    return frame[["run", *frame.columns.drop("run")]]


def _row(run: Run) -> dict[str, object]:
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
        [{"run": run.folder, "scale": run.scale} | {key: json.dumps(getattr(run, key)) for key in WHOLE} for run in runs]
    )
    shown = tidy(runs)
    frame = shown.join(kept[list(WHOLE)])
    return {
        "runs.csv": frame.to_csv(index=False).encode(),
        "curves.csv": tidy_curves(runs).to_csv(index=False, float_format="%.6g").encode(),
    }


def read_archive(path: Path) -> list[Run]:
    """The runs of a runs.csv and of the curves.csv beside it.

    A run without curves has one row of metrics, its last.

    Raises:
        OSError, ValueError, KeyError: it is damaged.
    """
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    curves = path.with_name("curves.csv")
    by_run = dict(iter(pd.read_csv(curves).groupby("run", sort=False))) if curves.exists() else {}
    return [_run(row, by_run.get(row["run"])) for row in frame.to_dict("records")]


def _run(row: dict[str, object], curve: pd.DataFrame | None) -> Run:
    identity, summary, evaluation = (json.loads(row[key]) for key in WHOLE)
    if curve is None:
        known = ("epoch", *METRICS, "largest_gradient", "smallest_gap")
        last = {key: row[key] for key in known if not pd.isna(row.get(key))}
        metrics = pd.DataFrame([last] if "epoch" in last else [], columns=None if "epoch" in last else COLUMNS)
    else:
        metrics = curve.drop(columns="run").dropna(axis="columns", how="all").reset_index(drop=True)
    return Run(row["run"], identity, row["scale"], metrics, summary, evaluation, pd.DataFrame(columns=SPECTRA_COLUMNS))
