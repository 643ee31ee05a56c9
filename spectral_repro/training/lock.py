"""One process at a time in a folder."""

import fcntl
import os
import socket
from pathlib import Path

from spectral_repro.errors import UserError
from spectral_repro.training.processes import is_main_process


class Lock:
    """A lock on a file in which its holder is named; the kernel takes it back however the holder ends.

    It is the process's own: workers that it forks do not hold it, and taking it twice is taking it once. Of several processes
    that train one network the first takes it.
    """

    def __init__(self, path: Path):
        self.path, self.file = path, None

    def take(self) -> None:
        """
        Raises:
            UserError: if another process holds it, with the host and the number of that process.
        """
        if self.file or not is_main_process():
            return
        self.file = self.path.open("a+")
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            other = self.path.read_text()
            self.release()
            raise UserError(f"{self.path.parent}: {other} is at work on it; let it end, or end it, and start again") from error
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self.file.flush()

    def release(self) -> None:
        if self.file:
            self.file.close()
            self.file = None


def holder(path: Path) -> str | None:
    """Who holds the lock on this file, as far as another process does; None if nobody."""
    try:
        with path.open() as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return file.read()
    except FileNotFoundError:
        pass
    return None
