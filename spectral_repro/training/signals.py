"""Stopping between two steps instead of in the middle of one."""

import signal
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
