"""Reads the run folders of the trainer."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from spectral_repro import records
from spectral_repro.configuration.folders import Loader
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import AS_BEFORE, digest, flatten, identity, within
from spectral_repro.errors import UserError, in_one_line
from spectral_repro.listing import is_visible
from spectral_repro.records import check_evaluation, check_summary, is_of_last, read_json
from spectral_repro.reporting.cache import cached, fingerprint
from spectral_repro.reporting.metrics import EVALUATED
from spectral_repro.reporting.protocols import counted

STATES = ("finished", "diverged", "interrupted", "running", "failed")
OF_EVERY_EPOCH = ("epoch", "train_loss", "train_accuracy")
COLUMNS = (*OF_EVERY_EPOCH, "test_loss", "test_accuracy")
NEEDED = {"seed": int, "precision": str, "dataset.name": str, "trainer.epochs": int, "scale.name": str}
NEEDED_OF_A_STUDY = {key: NEEDED[key] for key in ("seed", "scale.name")}
READ = CONFIG, SUMMARY, METRICS_FILE, EVALUATION, SPECTRA = (
    ".hydra/config.yaml",
    "summary.json",
    "metrics.csv",
    "evaluation.json",
    "spectra.csv",
)


METRICS_CODE = Path(__file__).with_name("metrics.py")  # `EVALUATED` is read from evaluation.json
LARGEST = 1e38  # numbers beyond the range of float32 count as infinite


SPECTRA_COLUMNS = {"epoch": int, "layer": str, "exact": float, "power": float}


class Damage(str):
    """A notice about something that is left out because it is damaged."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        folder: name of its folder.
        identity: the values of the configuration that determine the result, by dotted key. Values of `AS_BEFORE` are only in
            `completed` ones.
        scale: name of the scale, such as paper or cpu.
        metrics: a row for each finished epoch, from 1 on, with accuracies in percent. Columns other than `COLUMNS` may be
            missing. The last row also has the measurements of the last checkpoint in evaluation.json. For a study, its rows.
        summary: the content of summary.json. Any key but ``state`` may be missing, and no value is None.
        evaluation: the content of evaluation.json, by measurement; empty without one.
        spectra: the content of spectra.csv, a row for each epoch and layer with its largest singular value; empty without one.
        places: where it was read, folders of run folders and runs.csv files; several if they have equal copies of it.
    """

    folder: str
    identity: dict[str, Any]
    scale: str
    metrics: pd.DataFrame
    summary: dict[str, Any]
    evaluation: dict[str, dict]
    spectra: pd.DataFrame
    places: tuple[Path, ...]

    @property
    def id(self) -> str:
        return digest(self.identity)

    @property
    def seed(self) -> int:
        return self.identity["seed"]

    @property
    def state(self) -> str:
        return self.summary["state"]

    @property
    def whole(self) -> bool:
        """Whether it has all epochs from the first on. A run from a runs.csv without curves.csv has only the last one."""
        first = "train_loss" if "epoch" in self.metrics else self.metrics.columns[0]
        return not self.metrics.empty and first in self.metrics and self.metrics.get("epoch", pd.Series([1])).iloc[0] == 1

    @property
    def epochs(self) -> int:
        """The number of finished epochs; for a study, the number of its rows."""
        by_epoch = "epoch" in self.metrics and not self.metrics.empty
        return int(self.metrics["epoch"].max()) if by_epoch else len(self.metrics)

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The smaller, the better a copy of a run: by its state, then by its epochs, then by whether it has all of them."""
        return STATES.index(self.state), -self.epochs, not self.whole

    @property
    def paper(self) -> str | None:
        """The paper whose experiment it is; None if it was started without one."""
        name = self.summary.get("name", "")
        return max((paper for paper in options("paper") if name.startswith(f"{paper}_")), key=len, default=None)

    @property
    def notes(self) -> list[str]:
        """Remarks about its data."""
        return self.summary.get("notes") or []

    @property
    def versions(self) -> dict[str, str]:
        return self.summary.get("versions") or {}

    @property
    def machine(self) -> str:
        """The device, processes and threads, such as "2 x Some CPU, 1 thread"."""
        parts = [self.summary.get("device") or "an unnamed device"]
        if (processes := self.summary.get("processes") or 1) > 1:
            parts.append(f"{processes} processes")
        if threads := self.summary.get("threads"):
            parts.append(counted(threads, "thread"))
        return ", ".join(parts)

    @property
    def commit(self) -> str | None:
        """The commit of the code, and whether there were uncommitted changes."""
        git = self.summary.get("git") or {}
        return f"{git['commit'][:7]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else None

    @property
    def largest_gradient(self) -> float:
        """The largest gradient norm over all steps; NaN if it was not recorded."""
        return self._recorded("largest_gradient").max()

    @property
    def smallest_gap(self) -> float:
        """The smallest (lambda_i - lambda_(i+1)) / lambda_i over all steps; NaN if it was not recorded."""
        return self._recorded("smallest_gap").min()

    def _recorded(self, column: str) -> pd.Series:
        return self.metrics.get(column, pd.Series(dtype=float))


def read_runs(root: Path, made_by: str) -> tuple[list[Run], list[str]]:
    """All runs in the folders of ``root``, without duplicates, and a notice for every folder left out (`Damage` if damaged).

    Folders that have not changed since an earlier call are not read again.

    Args:
        root: folder of run folders.
        made_by: the command that makes runs, for the error.

    Raises:
        UserError: if there is no such folder, or it cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"runs={root}: no such folder; runs are made by {made_by}")
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and is_visible(path))
    except OSError as error:
        raise UserError(f"runs={root}: cannot be read ({error.strerror})") from error
    runs, notices = [], []
    for folder, contents in cached({folder: _state(folder) for folder in folders}, _read_or_notice).items():
        if isinstance(contents, Contents):
            runs.append(_run(folder, contents))
        else:
            notices.append(contents)
    return _each_once(runs, notices), notices


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        OSError, ValueError, KeyError: if it is damaged or incomplete.
    """
    return _run(folder, _read(folder))


@dataclass(frozen=True)
class Contents:
    """The files of a run folder that a report reads."""

    config: dict[str, Any]
    summary: dict[str, Any]
    metrics: pd.DataFrame
    evaluation: dict[str, dict]
    spectra: pd.DataFrame


def _state(folder: Path) -> str:
    """A hash of the times and sizes of the files of a folder, and of the code that reads them."""

    def written(path: Path) -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size  # ctime: also of permissions

    code = [written(Path(file)) for file in (__file__, records.__file__, METRICS_CODE)]
    return fingerprint(str(folder.resolve()), [written(folder / name) for name in READ], code)


def _read_or_notice(folder: Path) -> Contents | str:
    """The files of a run folder, or a line that says why it cannot be read."""
    try:
        return _read(folder)
    except FileNotFoundError as error:
        return f"{folder.name}: left out, no {Path(error.filename).name}"
    except Exception as error:
        return Damage(f"{folder.name}: left out, {_one_line(error)}")


def _read(folder: Path) -> Contents:
    if pipes := [name for name in READ if (folder / name).is_fifo()]:
        raise ValueError(f"{pipes[0]} is a pipe, not a file")
    try:
        config = yaml.load((folder / CONFIG).read_bytes(), Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{CONFIG} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG} is not a configuration")
    config.pop("paper", None)  # all tables of a paper, which are not needed
    values = flatten(config)
    check_needed(values, CONFIG)
    summary = _checked(folder / SUMMARY, check_summary)
    if summary.get("state") not in STATES:
        raise ValueError(f"{SUMMARY} has no state among {', '.join(STATES)}")
    metrics = _read_metrics(folder / METRICS_FILE, study="study._target_" in values)
    if summary["state"] == "finished" and (metrics.empty or metrics.iloc[-1].filter(like="accuracy").isna().any()):
        raise ValueError(f"finished, but {METRICS_FILE} has no complete last row")
    if summary["state"] == "finished" and len(metrics) < summary.get("epochs", 0):
        raise ValueError(f"finished, but {METRICS_FILE} has {len(metrics)} of {summary['epochs']} epochs")
    evaluation = _checked(folder / EVALUATION, check_evaluation) if (folder / EVALUATION).exists() else {}
    for metric in EVALUATED:
        entry = evaluation.get(metric.measurement or "", {})
        if entry.get(metric.name) is not None and is_of_last(entry):
            metrics.loc[metrics.index[-1:], metric.name] = float(entry[metric.name])
    return Contents(config, summary, metrics, evaluation, _read_spectra(folder / SPECTRA))


def check_needed(values: dict[str, Any], place: str) -> None:
    """Checks the values of a run that a report reads.

    Raises:
        ValueError: if one is missing or of another type.
    """
    needed = NEEDED_OF_A_STUDY if "study._target_" in values else NEEDED
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"{place} has no {', '.join(missing)}")
    if wrong := [key for key, kind in needed.items() if not isinstance(values[key], kind)]:
        raise ValueError(f"{place} has {wrong[0]}={json.dumps(values[wrong[0]])}")


def completed(runs: Iterable[Run]) -> list[Run]:
    """The runs, with values of `AS_BEFORE` in their identities where another run has another value of the same key.

    A key of a layer or a data set is completed only where the other run has the same class or function.
    """
    runs = list(runs)
    known = {(key, *_owner(key, run)) for run in runs for key in AS_BEFORE if key in run.identity}

    def missing(run: Run) -> dict[str, Any]:
        return {
            key: value
            for key, value in AS_BEFORE.items()
            if key not in run.identity and (key, *_owner(key, run)) in known and _has(run, key.rpartition(".")[0])
        }

    return [replace(run, identity=run.identity | missing(run)) for run in runs]


def _owner(key: str, run: Run) -> tuple[str | None, str | None]:
    """The class or function that a key is an argument of, and that which loads its data set."""
    parent = key.rpartition(".")[0]
    return run.identity.get(f"{parent}._target_"), run.identity.get(f"{parent}.load._target_")


def _has(run: Run, parent: str) -> bool:
    return any(within(key, (parent,)) for key in run.identity)


def _run(folder: Path, contents: Contents) -> Run:
    config, others = contents.config, (contents.metrics, contents.summary, contents.evaluation, contents.spectra)
    return Run(folder.name, identity(config), config["scale"]["name"], *others, places=(folder.parent,))


def _read_metrics(path: Path, study: bool) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    try:
        metrics = pd.read_csv(path, dtype=float)
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    metrics = metrics.mask(metrics.abs() > LARGEST, np.copysign(np.inf, metrics))
    if study:
        return metrics
    if missing := [column for column in OF_EVERY_EPOCH if column not in metrics]:
        raise ValueError(f"metrics.csv has no {', '.join(missing)}")
    if metrics["epoch"].tolist() != list(range(1, len(metrics) + 1)):
        raise ValueError("metrics.csv does not count the epochs 1, 2, ...")
    return metrics.reindex(columns=[*COLUMNS, *metrics.columns.difference(COLUMNS, sort=False)])


def _checked(path: Path, check: Callable[[object], dict]) -> dict[str, Any]:
    try:
        return check(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def _read_spectra(path: Path) -> pd.DataFrame:
    spectra = pd.read_csv(path, dtype=SPECTRA_COLUMNS) if path.exists() else pd.DataFrame(columns=list(SPECTRA_COLUMNS))
    if missing := [column for column in SPECTRA_COLUMNS if column not in spectra]:
        raise ValueError(f"spectra.csv has no {', '.join(missing)}")
    return spectra


def _each_once(runs: Iterable[Run], notices: list[str]) -> list[Run]:
    copies = defaultdict(list)
    for run in runs:
        copies[run.id].append(run)
    kept = []
    for same in copies.values():
        best, *others = sorted(same, key=attrgetter("rank"))
        kept.append(best)
        notices += [f"{run.folder}: left out, the same run as {best.folder}" for run in others]
    return kept


def _one_line(error: Exception) -> str:
    expected = isinstance(error, OSError | ValueError)
    return " ".join((str(error) if expected else in_one_line(error)).split())[:200]
