import sqlite3

import pytest

from spectral_repro.reporting import cache, runs
from spectral_repro.reporting.cache import remembered
from spectral_repro.reporting.runs import read_runs


@pytest.fixture
def counted():
    """A function that is asked for its values, and what it was asked."""
    asked = []
    return lambda key: asked.append(key) or key.upper(), asked


def test_what_has_not_changed_is_not_worked_out_again(counted, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    work_out, asked = counted
    assert remembered({"a": "1", "b": "2"}, work_out) == {"a": "A", "b": "B"}
    assert remembered({"b": "2", "a": "other", "c": "3"}, work_out) == {"b": "B", "a": "A", "c": "C"}
    assert asked == ["a", "b", "a", "c"]


def test_what_nobody_used_for_long_is_forgotten(counted, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    work_out, asked = counted
    remembered({"a": "1", "b": "2"}, work_out)
    database = sqlite3.connect(cache.place())
    with database:
        database.execute("UPDATE answers SET used = 0 WHERE mark = '1'")
    database.close()
    remembered({"b": "2"}, work_out)
    remembered({"a": "1", "b": "2"}, work_out)
    assert asked == ["a", "b", "a"]


def test_without_a_place_to_write_everything_is_worked_out(counted, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    work_out, asked = counted
    assert remembered({"a": "1"}, work_out) == remembered({"a": "1"}, work_out) == {"a": "A"}
    assert asked == ["a", "a"]


def test_only_changed_runs_are_read_again(make_run, runs_folder, monkeypatch):
    folders = [make_run(seed=seed) for seed in range(3)]
    (runs_folder / "broken-00000000").mkdir()
    first, notices = read_runs(runs_folder, made_by="nobody")
    read = []
    real = runs._read
    monkeypatch.setattr(runs, "_read", lambda folder: read.append(folder) or real(folder))
    second, again = read_runs(runs_folder, made_by="nobody")
    assert read == [] and again == notices and len(notices) == 1
    assert [run.id for run in second] == [run.id for run in first]
    assert all(a.metrics.equals(b.metrics) and a.summary == b.summary for a, b in zip(first, second, strict=True))
    summary = folders[1] / "summary.json"
    summary.write_text(summary.read_text().replace("75.4", "175.4"))
    third, _ = read_runs(runs_folder, made_by="nobody")
    assert read == [folders[1]]
    assert sorted(run.summary["wall_time_s"] for run in third) == [75.4, 75.4, 175.4]
