"""The error for whatever the user can mend, and errors in one line."""

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """One line that says what is wrong and what to do; Hydra prints it without a traceback and exits with 1."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
