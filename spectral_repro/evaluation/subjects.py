"""Runs and checkpoint files to evaluate."""

import glob
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spectral_repro.configuration.folders import read_yaml
from spectral_repro.errors import UserError
from spectral_repro.listing import is_visible

Weights = Literal["model", "ema"]  # of the last step, or their average over the steps
FINISHED, DIVERGED = "finished", "diverged"
MADE_BY = "runs are made by python -m spectral_repro.train"


@dataclass(frozen=True)
class Subject:
    """Weights of a checkpoint, and where their evaluation is written."""

    name: str
    checkpoint: Path
    record: Path
    weights: Weights = "model"

    @property
    def settings(self) -> dict[str, Any]:
        """A record that identifies the weights: name and hash of the file.

        Raises:
            UserError: if it cannot be read.
        """
        try:
            with self.checkpoint.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{self.checkpoint}: cannot be read ({error.strerror})") from error
        averaged = {"weights": self.weights} if self.weights == "ema" else {}
        return {"checkpoint": self.checkpoint.name, "sha256": digest} | averaged


def find(path: Path, which: str, weights: Weights = "model") -> Subject:
    """A checkpoint file with FILE.evaluation.json in its folder, or a checkpoint of a run with evaluation.json in its folder.

    Raises:
        UserError: for a missing path, and a folder without a finished training.
    """
    if path.is_file():
        return Subject(str(path), path, path.with_suffix(".evaluation.json"), weights)
    state = _state_of(path)
    if state == FINISHED and _is_study(path):
        raise UserError(f"{path}: a study, which has no trained network")
    if state != FINISHED:
        raise UserError(
            f"{path}: its state is {state}. Only finished runs can be evaluated; to evaluate it anyway, name a file in its "
            "folder checkpoints"
        )
    return Subject(str(path), path / "checkpoints" / f"{which}.pt", path / "evaluation.json", weights)


def without_weights(path: Path) -> str | None:
    """The kind of a run that left no network to evaluate, "diverged" or "a study"; None for other runs and for files.

    Raises:
        UserError: for a missing path, and a folder without a run.
    """
    if path.is_file():
        return None
    state = _state_of(path)
    if state == DIVERGED:
        return state
    return "a study" if _is_study(path) else None


def _is_study(run: Path) -> bool:
    """Whether the run in a folder measures networks without training."""
    path = run / ".hydra" / "config.yaml"
    content = read_yaml(path) if path.is_file() else None
    return isinstance(content, dict) and "study" in content


def _state_of(path: Path) -> str:
    """The state of the run in this folder.

    Raises:
        UserError: for a missing path, and a folder without a run.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; {MADE_BY}")
    try:
        return json.loads((path / "summary.json").read_text())["state"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the folder of a run, it has no summary.json that names a state") from error


def paths_in(folder: Path) -> list[Path]:
    """The folders of runs and the checkpoint files (*.pt) in a folder, or those that a pattern such as runs/NAME-* matches.

    Raises:
        UserError: if there are none.
    """
    try:
        content = folder.iterdir() if folder.is_dir() else map(Path, glob.glob(str(folder)))
        visible = [path for path in sorted(content) if is_visible(path)]
    except OSError as error:
        raise UserError(f"runs={folder}: cannot be read ({error.strerror})") from error
    if not (visible or folder.is_dir()):
        raise UserError(f"runs={folder}: no such folder; {MADE_BY}")
    found = [path for path in visible if path.is_dir() or path.suffix == ".pt"]
    if not found:
        raise UserError(f"runs={folder}: holds neither the folder of a run nor a checkpoint (*.pt); {MADE_BY}")
    return found
