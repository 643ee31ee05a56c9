"""JSON files of runs, in which NaN and infinity are null."""

import json
from pathlib import Path

import pytest

from spectral_repro.records import check_evaluation, check_summary, finite, read_json
from spectral_repro.training.files import write_json

NAN, INFINITY = float("nan"), float("inf")


def test_values_that_are_not_finite_are_null(tmp_path: Path):
    values = {"a": NAN, "b": [1.5, -INFINITY, {"c": INFINITY}], "d": (NAN, 2), "e": "NaN", "f": 10**400, "g": None, "h": True}
    expected = {"a": None, "b": [1.5, None, {"c": None}], "d": [None, 2], "e": "NaN", "f": 10**400, "g": None, "h": True}
    assert finite(values) == expected
    write_json(tmp_path / "values.json", values)
    assert json.loads((tmp_path / "values.json").read_text(), parse_constant=pytest.fail) == expected
    (tmp_path / "values.json").write_text('{"a": NaN, "b": [1e999, -Infinity]}')
    assert read_json(tmp_path / "values.json") == {"a": None, "b": [None, None]}


def test_a_summary_that_a_run_writes_is_taken():
    summary = {"name": "x", "state": "finished", "git": None, "final": {"test_loss": None, "epoch": 1}, "notes": [], "own": {}}
    assert check_summary(summary) == {key: value for key, value in summary.items() if value is not None}
    assert check_evaluation({}) == {}
