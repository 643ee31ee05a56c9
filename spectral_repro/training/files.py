"""Files that are whole at any moment."""

import os
from pathlib import Path

from spectral_repro.training.processes import first


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that under its name stands either the old or the new content, never a part of it.

    Of several processes that train one network only the first does.
    """
    if not first():
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
