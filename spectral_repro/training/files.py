"""Files that are written whole or not at all, and the lock of a run folder."""

import csv
import fcntl
import io
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from spectral_repro.errors import UserError
from spectral_repro.records import finite
from spectral_repro.training.processes import is_main_process

PARTIAL = ".partial"


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes values as JSON (`write_whole`), with null for NaN and infinity."""
    write_whole(path, (json.dumps(finite(values), indent=2, allow_nan=False) + "\n").encode())


def write_whole(path: Path, content: bytes | memoryview, keep: Path | None = None) -> None:
    """Writes a file atomically: it has either the old or the new content, even after a power failure. ``keep`` is a name for
    the old content; after a crash it may be that only ``keep`` exists. Of several processes that train one network, only the
    first writes.
    """
    if not is_main_process():
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            path.replace(keep)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_metrics(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A row per epoch, with the columns of all rows: a run may continue with more or fewer columns than it began with."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(chain.from_iterable(rows))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


class Lock:
    """A lock on a file that names its holder; the kernel releases it however the holder ends.

    It belongs to the process: forked workers do not hold it, and taking it twice has no effect. Of several processes that train
    one network, the first takes it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.file: TextIO | None = None

    def take(self) -> None:
        """
        Raises:
            UserError: if another process holds it, with its host and process number.
        """
        if self.file or not is_main_process():
            return
        file = self.file = self.path.open("a+", encoding="utf-8")
        for left in (1, 0):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError) as error:
                if left:
                    time.sleep(0.1)  # `holder` may have it for a moment
                    continue
                other = self.path.read_text("utf-8")
                self.release()
                raise UserError(f"{self.path.parent}: {other} is running it; wait until it ends, or stop it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()

    def release(self) -> None:
        if self.file:
            self.file.close()
            self.file = None


def holder(path: Path) -> str | None:
    """The other process that holds the lock on this file; None if there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return file.read()
    except OSError:  # missing or unreadable
        pass
    return None
