"""Files that are whole at any moment."""

import os
from pathlib import Path

from spectral_repro.training.processes import is_main_process

PARTIAL = ".partial"


def write_whole(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Writes a file so that under its name stands either the old or the new content, never a part of it, after a loss of power
    as well. ``keep`` is the name under which the old content stays; a crash may leave that one alone. Of several processes that
    train one network only the first writes.
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
