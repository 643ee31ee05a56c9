"""The folder of a run: results_dir/<name>-<8 digits of its identity>."""

import json
import math
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.identity import digest, essentials, identity
from spectral_repro.errors import UserError
from spectral_repro.training.files import write_whole
from spectral_repro.training.processes import anyone, first

OVER = ("finished", "diverged")


class Run:
    """One training, found again by its identity whatever name it was started under.

    ``summary`` is what summary.json holds; `update` changes it on disk.
    """

    def __init__(self, config: DictConfig, name: str):
        self.id = digest(identity(config))
        results = Path(config.results_dir)
        self.folder = next(results.glob(f"*-{self.id}"), results / f"{name}-{self.id}")
        new = {"name": name, "id": self.id, "state": "running", "wall_time_s": 0.0}
        self.anew = config.force
        self.summary = new if self.anew else self._read_summary() or new
        self._wall_time_before = self.summary["wall_time_s"]
        self._started = time.monotonic()

    @property
    def over(self) -> bool:
        return self.summary["state"] in OVER

    @property
    def checkpoint(self) -> Path:
        """Where the state of the training is kept."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def resumes(self) -> bool:
        """Is there a state to go on from?"""
        return not self.anew and self.checkpoint.exists()

    def open(self, config: DictConfig, overrides: list[str]) -> None:
        """Makes the folder, or empties it if the run is forced anew, and writes the configuration into it. Of several processes
        the first does, when all have read what was there, and the others wait for it.
        """
        anyone(False)
        if first():
            self._make(config, overrides)
        anyone(False)
        self.summary.pop("failure", None)
        started = self.summary.get("started", datetime.now(UTC).isoformat(timespec="seconds"))
        self.update(state="running", started=started)

    def _make(self, config: DictConfig, overrides: list[str]) -> None:
        try:
            if self.anew and self.folder.exists():
                shutil.rmtree(self.folder)
            hydra_folder = self.folder / ".hydra"
            hydra_folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(essentials(config), hydra_folder / "config.yaml", resolve=True)
            OmegaConf.save(OmegaConf.create(overrides), hydra_folder / "overrides.yaml")
        except OSError as error:
            raise UserError(f"results_dir={config.results_dir}: {self.folder} cannot be written ({error.strerror})") from error

    def update(self, **values: object) -> None:
        wall_time = self._wall_time_before + time.monotonic() - self._started
        self.summary |= values | {"wall_time_s": round(wall_time, 3)}
        write_whole(
            self.folder / "summary.json", (json.dumps(_finite(self.summary), indent=2, allow_nan=False) + "\n").encode()
        )

    def _read_summary(self) -> dict | None:
        try:
            return json.loads((self.folder / "summary.json").read_text())
        except (OSError, json.JSONDecodeError):
            return None


def _finite(value: object) -> object:
    """The same with null in the place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
