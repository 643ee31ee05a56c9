"""What is dear to work out again, kept between calls in the user's cache folder."""

import hashlib
import os
import pickle
import sqlite3
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

FORGOTTEN_AFTER = 90 * 24 * 3600  # seconds without use
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def place() -> Path:
    """$XDG_CACHE_HOME/spectral_repro/report.sqlite, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spectral_repro" / "report.sqlite"


def fingerprint(*parts: object) -> str:
    """Tells values apart by how they are written."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def remembered(fingerprints: Mapping[Key, str], work_out: Callable[[Key], Value]) -> dict[Key, Value]:
    """The value of each key: that of an earlier call with the same fingerprint, or else worked out now.

    Without a place to write to, everything is worked out.
    """
    try:
        with closing(_open()) as database:
            known = _read(database, set(fingerprints.values()))
            values = {key: pickle.loads(known[mark]) if mark in known else work_out(key) for key, mark in fingerprints.items()}
            new = {mark: pickle.dumps(values[key]) for key, mark in fingerprints.items() if mark not in known}
            _write(database, new, known)
            return values
    except (OSError, sqlite3.Error):
        return {key: work_out(key) for key in fingerprints}


def _open() -> sqlite3.Connection:
    place().parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(place(), timeout=60)
    database.execute("CREATE TABLE IF NOT EXISTS answers (mark TEXT PRIMARY KEY, value BLOB, used REAL) WITHOUT ROWID")
    return database


def _read(database: sqlite3.Connection, marks: set[str]) -> dict[str, bytes]:
    database.execute("CREATE TEMP TABLE wanted (mark TEXT PRIMARY KEY)")
    database.executemany("INSERT INTO wanted VALUES (?)", ((mark,) for mark in marks))
    found = dict(database.execute("SELECT mark, value FROM answers JOIN wanted USING (mark)"))
    database.commit()
    return found


def _write(database: sqlite3.Connection, new: Mapping[str, bytes], seen: Iterable[str]) -> None:
    now = time.time()
    with database:
        database.executemany("REPLACE INTO answers VALUES (?, ?, ?)", ((mark, value, now) for mark, value in new.items()))
        database.executemany("UPDATE answers SET used = ? WHERE mark = ?", ((now, mark) for mark in seen))
        database.execute("DELETE FROM answers WHERE used < ?", (now - FORGOTTEN_AFTER,))
