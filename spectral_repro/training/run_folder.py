"""The folder of a run: results_dir/<name>-seed<seed>-<8 digits of its identity>."""

import glob
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spectral_repro.configuration.identity import config_read, digest, identity
from spectral_repro.errors import UserError
from spectral_repro.records import check_summary, read_json
from spectral_repro.training.files import PARTIAL, Lock, write_json, write_whole
from spectral_repro.training.processes import any_rank, is_main_process

OVER = ("finished", "diverged")


def folder_of(config: DictConfig) -> Path | None:
    """The folder of the run with this configuration; None if it has not begun."""
    return next(Path(config.results_dir).expanduser().glob(f"*-{digest(identity(config))}"), None)


class RunFolder:
    """The folder of one training, found by its identity whatever name it was started with.

    ``summary`` is the content of summary.json; `update` writes changes to disk. Within a with statement the folder is locked by
    this process, from the beginning or, if it is new, from `open` on.
    """

    def __init__(self, config: DictConfig, name: str):
        self.id = digest(identity(config))
        results = Path(config.results_dir).expanduser()
        self.folder = folder_of(config) or results / f"{name}-seed{config.seed}-{self.id}"
        _check_same(self.folder, config)
        self.anew = config.force and not _is_requeued()
        self.lock = Lock(self.folder / "lock")
        self.summary = self._summary(name)
        if self.folder.exists() and not self.over:
            with self._writable(results):
                self.lock.take()
            self.summary = self._summary(name)
        self._wall_time_before = self.summary["wall_time_s"]
        self._started = time.monotonic()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    @property
    def over(self) -> bool:
        return self.summary["state"] in OVER

    @property
    def checkpoint(self) -> Path:
        """The file of the training state."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The file of the training state before that one."""
        return self.checkpoint.with_name("previous.pt")

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints to continue from, the newest first."""
        return [path for path in (self.checkpoint, self.previous) if path.exists() and not self.anew]

    def open(self, config: DictConfig, overrides: list[str]) -> None:
        """Makes the folder, or empties it with force=true, and writes the configuration into it. Of several processes the first
        does so when all have read the old content, and the others wait for it.
        """
        any_rank(False)
        if is_main_process():
            self._make(config, overrides)
        any_rank(False)
        self.summary.pop("failure", None)
        started = self.summary.get("started", datetime.now(UTC).isoformat(timespec="seconds"))
        self.update(state="running", started=started)

    def _make(self, config: DictConfig, overrides: list[str]) -> None:
        with self._writable(config.results_dir):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.take()
            self._clear()
            hydra_folder = self.folder / ".hydra"
            hydra_folder.mkdir(exist_ok=True)
            OmegaConf.save(config_read(config), hydra_folder / "config.yaml", resolve=True)
            OmegaConf.save(OmegaConf.create(overrides), hydra_folder / "overrides.yaml")

    def adopt(self, earlier: Path) -> None:
        """Copies the checkpoints and the singular values of another run, to continue where it ended."""
        for name in ("spectra.csv", "checkpoints/best.pt", "checkpoints/last.pt"):
            if (earlier / name).exists():
                (self.folder / name).parent.mkdir(exist_ok=True)
                write_whole(self.folder / name, (earlier / name).read_bytes())
        self.anew = False
        any_rank(False)

    def update(self, **values: object) -> None:
        wall_time = self._wall_time_before + time.monotonic() - self._started
        self.summary |= values | {"wall_time_s": round(wall_time, 3)}
        write_json(self.folder / "summary.json", self.summary)

    def _summary(self, name: str) -> dict[str, Any]:
        new = {"name": name, "id": self.id, "state": "running", "wall_time_s": 0.0}
        return new if self.anew else new | summary_of(self.folder)  # without it, the checkpoints decide how the run continues

    @contextmanager
    def _writable(self, results_dir: object) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"results_dir={results_dir}: {self.folder} cannot be written ({error.strerror})") from error

    def _clear(self) -> None:
        """Removes half-written files of a killed process, or everything with force=true."""
        for path in self.folder.iterdir() if self.anew else self.folder.rglob(f"*{PARTIAL}"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self.lock.path:
                path.unlink()


def summary_of(folder: Path) -> dict[str, Any]:
    """The content of summary.json; empty if it is missing or damaged."""
    try:
        return check_summary(read_json(folder / "summary.json"))
    except (OSError, ValueError):
        return {}


def _is_requeued() -> bool:
    """Whether Slurm has started this job before, with the same arguments: force=true is meant for the first start."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def differing_keys(config: DictConfig, other: DictConfig) -> list[str]:
    """The keys with different values in the identities of two configurations."""
    values, others = (json.loads(json.dumps(identity(each))) for each in (config, other))
    return sorted(key for key in values.keys() | others.keys() if values.get(key) != others.get(key))


def with_other_images(run: RunFolder, config: DictConfig) -> tuple[Path, str] | None:
    """The folder of a run that differs only in the content of its folder of images, and that folder; None if there is none."""
    if run.folder.exists() or "content" not in config.get("dataset", {}):
        return None
    begun = sorted(run.folder.parent.glob(f"{glob.escape(run.folder.name.removesuffix(run.id))}*"))
    found = next((folder for folder in begun if _differing(folder, config) == ["dataset.content"]), None)
    return (found, _stored(found).dataset.root) if found else None


def _differing(folder: Path, config: DictConfig) -> list[str]:
    """The keys in which the run in a folder differs; none if its configuration is not written whole."""
    try:
        return differing_keys(_stored(folder), config)
    except (OSError, ValueError, TypeError, YAMLError, OmegaConfBaseException):
        return []


def _stored(folder: Path) -> Any:
    """The configuration of the run in a folder."""
    return OmegaConf.load(folder / ".hydra" / "config.yaml")


def _check_same(folder: Path, config: DictConfig) -> None:
    """
    Raises:
        UserError: if the folder holds a run of other values with the same digits.
    """
    if others := _differing(folder, config):
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise UserError(
            f"{folder}: holds a run with the same digits but another {named}; move it away, or name another results_dir"
        )
