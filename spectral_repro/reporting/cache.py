"""A cache on disk for slow computations, in the user's cache folder."""

import functools
import hashlib
import os
import pickle
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spectral_repro.workers import Item, Mapper, Value

UNUSED_FOR = 90 * 24 * 3600  # seconds after which an entry is removed
PACKAGES = ("pandas", "numpy", "hydra-core", "omegaconf", "pyyaml")  # entries depend on their versions


def place() -> Path:
    """$XDG_CACHE_HOME/spectral_repro/cache.sqlite, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spectral_repro" / "cache.sqlite"


def fingerprint(*parts: object) -> str:
    """A hash of the repr of the values and of the versions of Python and `PACKAGES`."""
    return hashlib.sha256(repr((_versions(), parts)).encode()).hexdigest()


@functools.cache
def _versions() -> list[str]:
    return [platform.python_version(), *map(version, PACKAGES)]


def cached(keys: Mapping[Item, str], compute: Callable[[Item], Value], mapper: Mapper = map) -> dict[Item, Value]:
    """The value of each item, from an earlier call with the same key, or computed now.

    A fault of the cache is never an error: an entry that cannot be read is computed again, a damaged file is removed, and
    nothing is stored if the folder cannot be written to.

    Args:
        keys: the key of each item.
        compute: gives the value of an item.
        mapper: calls it for all missing items; used like the built-in map.
    """
    nothing: dict[str, Any] = {}
    known = _with_database(lambda database: _read(database, set(keys.values())), otherwise=nothing)
    missing = [item for item, key in keys.items() if key not in known]
    computed = dict(zip(missing, mapper(compute, missing), strict=True))
    new = {keys[item]: value for item, value in computed.items()}
    _with_database(lambda database: _write(database, new, known), otherwise=None)
    return {item: known[key] if key in known else computed[item] for item, key in keys.items()}


def _with_database(action: Callable[[sqlite3.Connection], Value], otherwise: Value) -> Value:
    try:
        place().parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(place(), timeout=60)) as database:
            database.execute("PRAGMA synchronous = OFF")  # no waiting for the disk: a damaged file is made again
            database.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, used REAL) WITHOUT ROWID")
            return action(database)
    except (OSError, RuntimeError, sqlite3.OperationalError):  # no folder, no home, no space, or another process is writing
        return otherwise
    except sqlite3.DatabaseError:
        with suppress(OSError):
            place().unlink()
        return otherwise


def _read(database: sqlite3.Connection, keys: set[str]) -> dict[str, Any]:
    database.execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY)")
    database.executemany("INSERT INTO wanted VALUES (?)", ((key,) for key in keys))
    entries = {}
    for key, value in database.execute("SELECT key, value FROM entries JOIN wanted USING (key)").fetchall():
        with suppress(Exception):  # damaged data can raise any error in pickle
            entries[key] = pickle.loads(value)
    return entries


def _write(database: sqlite3.Connection, new: Mapping[str, Any], used: Iterable[str]) -> None:
    now = time.time()
    with database:
        entries = ((key, pickle.dumps(value), now) for key, value in new.items())
        database.executemany("REPLACE INTO entries VALUES (?, ?, ?)", entries)
        database.executemany("UPDATE entries SET used = ? WHERE key = ?", ((now, key) for key in used))
        database.execute("DELETE FROM entries WHERE used < ?", (now - UNUSED_FOR,))
