"""The error for whatever the user can mend."""

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """One line that says what is wrong and what to do; Hydra prints it without a traceback and exits with 1."""
