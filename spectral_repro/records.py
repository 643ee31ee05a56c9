"""The content of the JSON files of a run: summary.json and evaluation.json."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ANY = "*"  # any key
NUMBER = (int, float)
SUMMARY = {  # types of the values that are present and not null
    **dict.fromkeys(("name", "id", "state", "started", "device"), str),
    **dict.fromkeys(("processes", "threads", "epochs", "steps", "total_steps"), int),
    **dict.fromkeys(("wall_time_s", "images_per_second"), NUMBER),
    "final": {ANY: NUMBER},
    "best": {ANY: NUMBER},
    "failure": {"step": int, "layer": str, "during": str, "gap": NUMBER, "error": str},
    "images": {"train": int, "test": int},
    "machine": dict,
    "versions": {ANY: str},
    "autotune": {"channels_last": bool, "compile": (bool, str)},
    "git": {"commit": str, "dirty": bool},
    "notes": [str],
}
MEASUREMENT = {"conditions": str, "settings": {"checkpoint": str}}  # required in each measurement of evaluation.json

LAST = "last.pt"


def read_json(path: Path) -> Any:
    """The content of a JSON file, with None instead of NaN and infinity.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    try:
        return finite(json.loads(path.read_bytes()))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def finite(value: Any) -> Any:
    """The same with None instead of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_summary(summary: Any) -> dict[str, Any]:
    """The content of a summary.json, without null values.

    Raises:
        ValueError: if it is not an object, or a value has the wrong type.
    """
    _check(summary, SUMMARY, "")
    return {key: value for key, value in summary.items() if value is not None}


def check_evaluation(entries: Any) -> dict[str, dict[str, Any]]:
    """The content of an evaluation.json: measurements by name.

    Raises:
        ValueError: if it is something else, or a measurement lacks a common entry.
    """
    _check(entries, {ANY: MEASUREMENT}, "")
    for name, entry in entries.items():
        if missing := [key for key in MEASUREMENT if entry.get(key) is None]:
            raise ValueError(f"{name} has no {missing[0]}")
        if entry["settings"].get("checkpoint") is None:
            raise ValueError(f"{name} does not name its checkpoint")
    evaluation: dict[str, dict[str, Any]] = entries
    return evaluation


def is_of_last(entry: Mapping[str, Any]) -> bool:
    """Whether the measured weights are those after the last step of a training, not an average or those of an earlier step."""
    return entry["settings"]["checkpoint"] == LAST and entry["settings"].get("weights") is None


def _check(value: Any, form: Any, place: str) -> None:
    if isinstance(form, list):
        _check(value, list, place)
        for each in value:
            _check(each, form[0], f"an entry of {place}")
    elif not isinstance(form, Mapping):
        if not isinstance(value, form):
            raise ValueError(f"{place} has the wrong type: {json.dumps(value)[:60]}")
    elif not isinstance(value, dict):
        raise ValueError(f"{place or 'the content'} is not a JSON object")
    else:
        for key, each in value.items():
            expected = form.get(key, form.get(ANY))
            if expected is not None and each is not None:
                _check(each, expected, f"{place}.{key}".lstrip("."))
