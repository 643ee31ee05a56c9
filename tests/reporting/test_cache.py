import pickle
import sqlite3
import subprocess
import sys

import pytest

from spectral_repro.reporting import cache, runs
from spectral_repro.reporting.cache import cached, fingerprint
from spectral_repro.reporting.runs import read_runs


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def counted():
    """A function that computes upper case letters, and what it was asked for."""
    asked = []
    return lambda item: asked.append(item) or item.upper(), asked


def change(statement: str, *values: object) -> None:
    """Changes one entry of the cache behind its back."""
    database = sqlite3.connect(cache.place())
    with database:
        assert database.execute(statement, values).rowcount == 1
    database.close()


def test_unchanged_items_are_read_from_the_cache(counted):
    compute, asked = counted
    assert cached({"a": "1", "b": "2"}, compute) == {"a": "A", "b": "B"}
    assert cached({"b": "2", "a": "other", "c": "3"}, compute) == {"b": "B", "a": "A", "c": "C"}
    assert asked == ["a", "b", "a", "c"]


def test_old_entries_are_removed(counted):
    compute, asked = counted
    cached({"a": "1", "b": "2"}, compute)
    change("UPDATE entries SET used = 0 WHERE key = '1'")
    cached({"b": "2"}, compute)
    cached({"a": "1", "b": "2"}, compute)
    assert asked == ["a", "b", "a"]


BAD = [b"", b"\x80", b"no pickle", pickle.dumps("A")[:-2], b"cpandas.core\nnot_there\n.", b"cno_such_package\nf\n.", None]


@pytest.mark.parametrize("value", BAD)
def test_an_unreadable_entry_is_computed_again(counted, value):
    compute, asked = counted
    cached({"a": "1", "b": "2"}, compute)
    change("UPDATE entries SET value = ? WHERE key = '1'", value)
    for _ in range(2):
        assert cached({"a": "1", "b": "2"}, compute) == {"a": "A", "b": "B"}
    assert asked == ["a", "b", "a"]


@pytest.mark.parametrize("content", [b"no database, but longer than a header" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_replaced(counted, content):
    compute, asked = counted
    cached({"a": "1"}, compute)
    cache.place().write_bytes(content)
    for _ in range(3):
        assert cached({"a": "1"}, compute) == {"a": "A"}
    assert asked == ["a", "a"]


def test_everything_is_computed_if_nothing_can_be_written(counted, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compute, asked = counted
    assert cached({"a": "1"}, compute) == cached({"a": "1"}, compute) == {"a": "A"}
    assert asked == ["a", "a"]


def test_results_are_returned_when_the_disk_is_full(counted, monkeypatch):
    """A database that may not grow stands for the disk: SQLite raises the same error."""
    connect = sqlite3.connect

    def limited(*arguments, **options):
        database = connect(*arguments, **options)
        database.execute("PRAGMA max_page_count = 3")
        return database

    monkeypatch.setattr(sqlite3, "connect", limited)
    items = {f"{number:0500}": str(number) for number in range(100)}
    compute, asked = counted
    for _ in range(2):
        assert cached(items, compute) == {item: item for item in items}
    assert len(asked) == 200


def test_other_versions_have_other_keys(monkeypatch):
    before = fingerprint("a")
    real = cache.version
    monkeypatch.setattr(cache, "version", lambda name: "99.0" if name == "pandas" else real(name))
    cache._versions.cache_clear()
    after = fingerprint("a")
    monkeypatch.undo()
    cache._versions.cache_clear()
    assert before != after and before == fingerprint("a")


def test_errors_of_the_computation_are_raised():
    asked = []

    def fail(item):
        asked.append(item)
        raise OSError("no such data")

    with pytest.raises(OSError, match="no such data"):
        cached({"a": "1"}, fail)
    assert asked == ["a"]


def test_two_processes_use_the_cache_at_once(counted):
    code = (
        "from spectral_repro.reporting.cache import cached\n"
        "for turn in range(20): assert cached({str(i): f'{turn}-{i}' for i in range(20)}, str.upper)['7'] == '7'"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == [b"", b""]
    assert [process.returncode for process in processes] == [0, 0]
    compute, asked = counted
    cached({str(i): f"19-{i}" for i in range(20)}, compute)
    assert asked == []


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
