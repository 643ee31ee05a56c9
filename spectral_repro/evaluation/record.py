"""evaluation.json: the measurements of a checkpoint with their settings and environment."""

from pathlib import Path
from typing import Any

from spectral_repro.errors import UserError, first_line
from spectral_repro.records import check_evaluation, read_json
from spectral_repro.training.files import write_json


class Record:
    """The measurements of one file by name; `add` writes to disk.

    Raises:
        UserError: for an existing file that cannot be read or lacks a part of a measurement.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self.entries: dict[str, dict] = check_evaluation(read_json(path)) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: damaged ({first_line(error)}); move it away to evaluate again") from error

    def holds(self, name: str, settings: dict[str, Any]) -> bool:
        return name in self.entries and self.entries[name].get("settings") == settings

    def add(self, name: str, entry: dict[str, Any]) -> None:
        self.entries[name] = entry
        try:
            write_json(self.path, self.entries)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error
