"""The groups of conf/, and how they are named on the command line."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from spectral_repro.errors import UserError

_PACKAGE = Path(__file__).resolve().parent.parent
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())
NO_OPTION = re.compile(r"true|false|nan|[-+]?inf|[-+]?[\d.].*|\{.*", re.IGNORECASE)


@functools.cache
def options(group: str) -> list[str]:
    """The options of a group of conf/, those in its folders as folder/option."""
    folder = CONF / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def spelled_for_hydra(overrides: Sequence[str]) -> list[str]:
    """norm=null as ~norm, which is how Hydra leaves out a group.

    Raises:
        UserError: for a group that is given a number or the like, which Hydra would answer with a traceback.
    """
    spelled = []
    for override in overrides:
        group, equals, value = override.partition("=")
        is_group = equals and re.fullmatch(r"[a-z]+", group) and (CONF / group).is_dir()
        if is_group and NO_OPTION.fullmatch(value):
            raise UserError(f"{override}: must be null, or one of {', '.join(options(group))}")
        spelled.append(f"~{group}" if is_group and value == "null" else override)
    return spelled
