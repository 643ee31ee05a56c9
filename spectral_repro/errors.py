"""The error for faults that the user can correct, and errors in one line."""

import traceback
from pathlib import Path

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """One line that says what is wrong and what to do; Hydra prints it without a traceback and exits with 1."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def same_command(force: object) -> str:
    """The command that continues what was not finished, in words; ``force``: whether it was given force=true."""
    return f"the same command{' without force=true' if force else ''}"


def in_one_line(error: Exception) -> str:
    """The message of a user error; for other errors the type, the first line of the message, and the last line of this package
    in the traceback.
    """
    if isinstance(error, UserError):
        return str(error)
    places = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    path, line = [place for place in places if Path(__file__).parent in place[0].parents or place == places[0]][-1]
    return f"{type(error).__name__}: {first_line(error)} ({path.name}, line {line})"
