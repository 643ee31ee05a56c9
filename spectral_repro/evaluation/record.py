"""evaluation.json: the measurements of a checkpoint with their settings and environment."""

import json
from pathlib import Path
from typing import Any

from spectral_repro.errors import UserError, first_line
from spectral_repro.records import check_evaluation, finite, read_json
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

    def differs(self, name: str, settings: dict[str, Any]) -> list[str]:
        """The settings in which an existing measurement differs; empty if there is none, and if its weights were replaced."""
        found = self.entries.get(name, {}).get("settings", settings)
        keys = [key for key in found | settings if found.get(key) != settings.get(key)]
        replaced = "sha256" in keys and "checkpoint" not in keys and "weights" not in keys
        return [] if replaced else [key for key in keys if key != "sha256"]

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Adds or replaces a measurement that `check_entry` accepts."""
        self.entries = Record(self.path).entries | {name: entry}  # another evaluation may have written meanwhile
        try:
            write_json(self.path, self.entries)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error


def check_entry(name: str, entry: dict[str, Any]) -> None:
    """Checks that a measurement can be stored in evaluation.json and read again.

    Raises:
        UserError: if it lacks a part that every measurement has, or has a value that cannot be written as JSON.
    """
    try:
        check_evaluation(json.loads(json.dumps(finite({name: entry}))))
    except (TypeError, ValueError) as error:
        raise UserError(f"the result cannot be stored ({first_line(error)})") from error
