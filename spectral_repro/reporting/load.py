"""Loads runs from run folders, and from the runs.csv and curves.csv of a report, as objects or pandas frames."""

import glob
import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_repro.configuration.identity import without_as_before
from spectral_repro.errors import UserError, in_one_line
from spectral_repro.records import check_evaluation, check_summary, finite
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.runs import COLUMNS, SPECTRA_COLUMNS, STATES, Damage, Run, check_needed, completed, read_runs

WHOLE = ("summary", "evaluation")  # columns of JSON objects that a run is read from
EPOCHS = ("final", "best")  # rows of metrics.csv in the summary; curves.csv has them
SUMMARY = ("wall_time_s", "images_per_second", "started", "device", "threads")
RUNS_FILE, CURVES_FILE = "runs.csv", "curves.csv"
MEASURED = ("epoch", *METRICS, "largest_gradient", "smallest_gap")
OTHERS = {"run", "state", "scale", "paper", *MEASURED, *SUMMARY, "commit", *WHOLE}  # columns that are not of the configuration
PLACES = ("results/runs", f"results/*/{RUNS_FILE}")


def tidy(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run, with the columns of `load_runs`."""
    return pd.DataFrame([_row(run) for run in runs])


def tidy_curves(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run and epoch, with the columns of `load_curves`."""
    frames = [run.metrics.assign(run=run.folder) for run in runs if run.whole]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run"])
    first = ["run", *dict.fromkeys(each.columns[0] for each in frames)]  # studies count layers, widths and so on
    return frame[[*first, *frame.columns.drop(first)]]


def _row(run: Run) -> dict[str, Any]:
    measured = {name: metric.of(run.metrics) for name, metric in METRICS.items() if metric.column in run.metrics}
    git = run.summary.get("git") or {}
    return {
        "run": run.folder,
        "state": run.state,
        "scale": run.scale,
        "seed": run.seed,
        "paper": run.paper,
        **{key: json.dumps(value) if isinstance(value, list) else value for key, value in run.identity.items()},
        "epoch": run.metrics["epoch"].max() if "epoch" in run.metrics else None,
        **{name: value for name, value in measured.items() if not pd.isna(value)},
        "largest_gradient": run.largest_gradient,
        "smallest_gap": run.smallest_gap,
        **{key: run.summary.get(key) for key in SUMMARY},
        "commit": git.get("commit"),
    }


def write_archive(runs: list[Run]) -> dict[str, bytes]:
    """The files runs.csv and curves.csv of these runs."""
    rows = [_row(replace(run, identity=_texts(run.identity))) | _whole(run) for run in runs]
    return {
        RUNS_FILE: pd.DataFrame(rows).to_csv(index=False).encode(),
        CURVES_FILE: tidy_curves(runs).to_csv(index=False, float_format="%.6g").encode(),
    }


def _texts(identity: dict[str, Any]) -> dict[str, str]:
    """The values as in runs.csv: JSON, but texts have no quotes unless they are empty or read as another value without them."""
    values = without_as_before(identity).items()
    return {key: value if isinstance(value, str) and _value(value) == value else json.dumps(value) for key, value in values}


def _value(text: str) -> Any:
    """The value of a cell; None if it is empty."""
    try:
        return json.loads(text)
    except ValueError:
        return text or None


def _whole(run: Run) -> dict[str, str]:
    summary = {key: value for key, value in run.summary.items() if key not in EPOCHS}
    columns = {"summary": summary, "evaluation": run.evaluation}
    return {key: json.dumps(finite(value), separators=(",", ":")) for key, value in columns.items()}


def read_archive(path: Path) -> list[Run]:
    """The runs in runs.csv, with their epochs from curves.csv in the same folder.

    A run that is not in curves.csv has only its last row of metrics, or none if it ended before its first epoch.

    Raises:
        OSError, ValueError, KeyError: if one of the two files is damaged.
    """
    frame = _read_csv(path, dtype=str, keep_default_na=False)
    if twice := [name for name, count in Counter(frame["run"]).items() if count > 1]:
        raise ValueError(f"{path.name} has several runs called {twice[0]}")
    curves = path.with_name(CURVES_FILE)
    by_run = _by_run(_read_csv(curves, dtype={"run": str}, keep_default_na=False, na_values=[""])) if curves.exists() else {}
    return [_run(row, by_run.get(row["run"]), path) for row in frame.to_dict("records")]


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(path, **options)
    except ValueError as error:
        raise ValueError(f"{path.name} is not a table: {error}") from error


def check_archive(out: Path, written: Collection[Run], read: Iterable[Run]) -> None:
    """Checks that a report does not replace the only copy of a run.

    Args:
        out: the folder of the report, which may have the runs.csv of an earlier one.
        written: the runs of the new runs.csv.
        read: all runs that were read. Those that come from another place than this runs.csv are kept there.

    Raises:
        UserError: if runs would be lost, or the runs.csv cannot be read.
    """
    archive = out / RUNS_FILE
    if not written or not archive.exists():
        return
    otherwise = f"name another folder with out=, or delete {archive} if you do not need it"
    try:
        there = read_archive(archive)
    except Exception as error:  # any damage
        raise UserError(f"out={out}: its {RUNS_FILE} cannot be read, so its runs would be lost; {otherwise}") from error
    own = {run.id: run for run in read if {place.resolve() for place in run.places} == {archive.resolve()}}
    kept = {run.id: run.rank for run in read if run.id not in own} | {run.id: run.rank for run in written}
    if lost := [run for run in there if run.id not in kept or kept[run.id] > run.rank]:
        unread = any(run.id not in own for run in lost)
        why, remedy = ("does not read", f"add {archive} to runs=, ") if unread else ("leaves out", "")
        raise UserError(
            f"out={out}: its {RUNS_FILE} has {counted(len(lost), 'run')} that this report {why}; {remedy}{otherwise}"
        )


def _by_run(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each run in the order of their first column, with the columns in which it has values.

    Raises:
        ValueError: if the epochs of a run are not 1, 2, ...
    """
    names = curves.columns.drop("run")
    values, known = curves[names].to_numpy(float), curves[names].notna().to_numpy()
    found = {}
    for run, rows in curves.groupby("run", sort=False).indices.items():
        has = known[rows].any(axis=0)
        frame = pd.DataFrame(values[rows][:, has], columns=names[has])
        first = "epoch" if "epoch" in frame else frame.columns[0]
        found[run] = frame.sort_values(first, kind="stable", ignore_index=True)
        if first == "epoch" and found[run]["epoch"].tolist() != list(range(1, len(frame) + 1)):
            raise ValueError(f"{CURVES_FILE} does not have the epochs 1, 2, ... of {run}")
    return found


def _run(row: dict[str, Any], curve: pd.DataFrame | None, path: Path) -> Run:
    if "identity" in row:  # an older file, with the configuration as one JSON object
        identity = _read_json(row, "identity")
    else:
        identity = {key: _value(text) for key, text in row.items() if key not in OTHERS and text}
    summary, evaluation = (_read_json(row, key) for key in WHOLE)
    check_needed(identity | {"scale.name": row.get("scale") or None}, f"the identity of {row['run']}")
    summary, evaluation = check_summary(summary), check_evaluation(evaluation)
    if summary.get("state") not in STATES:
        raise ValueError(f"the summary of {row['run']} has no state among {', '.join(STATES)}")
    if curve is not None and row.get("epoch") and len(curve) != float(row["epoch"]):
        raise ValueError(f"{CURVES_FILE} has {len(curve)} of the {row['epoch']} epochs of {row['run']}")
    if curve is not None:
        metrics = curve
    elif not row.get("epoch"):
        metrics = pd.DataFrame()
    else:
        metrics = pd.DataFrame([{key: row[key] for key in MEASURED if row.get(key)}])
    if "epoch" in metrics or metrics.empty:
        metrics = metrics.reindex(columns=[*COLUMNS, *metrics.columns.difference(COLUMNS, sort=False)])
    spectra = pd.DataFrame(columns=SPECTRA_COLUMNS)
    return Run(row["run"], identity, row["scale"], metrics.astype(float), summary, evaluation, spectra, places=(path,))


def _read_json(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = finite(json.loads(row[key]))
    if not isinstance(value, dict):
        raise ValueError(f"the {key} of {row['run']} is not a JSON object")
    return value


def read_places(places: Iterable[str], made_by: str) -> tuple[list[Run], list[str]]:
    """All runs in these places, without duplicates, and a notice for everything left out, of type `Damage` if it is damaged.

    Of several copies of a run, the best one is used: by its state (finished first), then by its epochs. Of equal copies, that
    in a run folder is used. If two runs have folders of the same name, their ids are appended.

    Args:
        places: folders of run folders, runs.csv files of reports, or patterns of them.
        made_by: the command that makes runs, for the error.

    Raises:
        UserError: if none of the places exists.
    """
    places = tuple(places)
    paths = [Path(path) for place in places for path in matching(place)]
    copies: defaultdict[str, list[Run]] = defaultdict(list)
    notices: list[str] = []
    for folder in (path for path in paths if path.is_dir()):
        found, remarks = read_runs(folder, made_by)
        notices += remarks
        for run in found:
            copies[run.id].append(run)
    for file in (path for path in paths if path.is_file()):
        try:
            for run in read_archive(file):
                copies[run.id].append(run)
        except Exception as error:  # any damage; the other places do not depend on it
            expected = isinstance(error, OSError | ValueError | KeyError)
            cause = error if expected else in_one_line(error)
            notices.append(Damage(f"{file}: left out, not the runs.csv of a report ({cause})"))
    if not any(path.exists() for path in paths):
        raise UserError(f"runs={','.join(places)}: no such folder; runs are made by {made_by}")
    absent = [place for place in places if place not in PLACES and not any(Path(path).exists() for path in matching(place))]
    notices += [f"{place}: no such file or folder" for place in absent]
    runs = [_best(same, notices) for same in copies.values()]
    names = Counter(run.folder for run in runs)
    return [replace(run, folder=f"{run.folder}-{run.id}") if names[run.folder] > 1 else run for run in runs], notices


def _best(copies: list[Run], notices: list[str]) -> Run:
    """The best copy of a run, with the places of its equals; adds a notice if it is not the first copy."""
    first, best = copies[0], min(copies, key=attrgetter("rank"))
    if best is not first:
        more = f"{best.state}, {counted(best.epochs, 'epoch')}"
        notices.append(f"{first.places[0] / first.folder}: left out, {best.places[0]} has more of the same run ({more})")
    return replace(best, places=tuple(place for run in copies if run.rank == best.rank for place in run.places))


def matching(place: str) -> list[str]:
    """The place itself if it exists, or else the paths that match it as a pattern; ~ is the home folder."""
    place = os.path.expanduser(place)
    return [place] if os.path.lexists(place) else sorted(glob.glob(place)) or [place]


def load_runs(*places: str | Path) -> pd.DataFrame:
    """Loads runs as a frame with a row for each run.

    Args:
        places: folders of run folders, runs.csv files, or patterns of them; by default ``results/runs`` and
            ``results/*/runs.csv``.

    Returns:
        A frame with these columns: run, the name of its folder; state, scale, seed and paper; every value of the configuration
        that determines the result, under its dotted key (empty if a run does not have it); epoch, the last one; every measured
        metric after it, accuracies in percent; wall_time_s, images_per_second, started, device, threads and commit.

    Raises:
        UserError: if none of the places exists.

    Example:
        >>> runs = load_runs("results/quickstart/runs.csv")
        >>> runs[runs["norm._target_"] == "torch.nn.BatchNorm2d"].seed.tolist()
        [0, 1]
    """
    return tidy(_loaded(places))


def load_curves(*places: str | Path) -> pd.DataFrame:
    """Loads the epochs of runs as a frame with a row for each run and epoch (for a study, each layer or width).

    Args:
        places: as for `load_runs`.

    Returns:
        A frame with the column run, the name of its folder, and the columns of metrics.csv, such as epoch, train_loss and
        test_accuracy.

    Raises:
        UserError: if none of the places exists.

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
    return completed(runs)
