"""Stopping between two steps instead of in the middle of one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """While active, Ctrl-C, SIGTERM and SIGUSR2 are only noted in ``asked``, by their number; a second one acts at once."""

    def __init__(self):
        self.asked = 0

    def __enter__(self) -> "StopRequest":
        self.previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        signal.signal(number, self.previous[number])


@contextmanager
def unheard_children() -> Iterator[None]:
    """Meanwhile no child process that ends is heard of: for each that is killed torch's data loader raises an error, wherever
    the program is.
    """
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
