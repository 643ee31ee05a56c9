"""The groups of options, and how one is named on the command line."""

import re
from collections.abc import Sequence

from spectral_repro.configuration.folders import files, folders, is_group
from spectral_repro.configuration.tables import row_names
from spectral_repro.errors import UserError

NO_OPTION = re.compile(r"true|false|nan|[-+]?inf|[-+]?[\d.].*|\{.*", re.IGNORECASE)


def options(group: str) -> list[str]:
    """The options of a group in all folders, those in its own folders as folder/option; of experiments, the rows of tables."""
    found = {option for folder in folders() for option in files(folder, group)}
    return sorted(found | {row for folder in folders() for row in row_names(folder)} if group == "experiment" else found)


def spelled_for_hydra(overrides: Sequence[str]) -> list[str]:
    """norm=null as ~norm, which is how Hydra leaves out a group.

    Raises:
        UserError: for a group that is given a number or the like, which Hydra would answer with a traceback.
    """
    spelled = []
    for override in overrides:
        group, equals, value = override.partition("=")
        named = equals and re.fullmatch(r"[a-z]+", group) and (group == "experiment" or is_group(group))
        if named and NO_OPTION.fullmatch(value):
            raise UserError(f"{override}: must be null, or one of {', '.join(options(group))}")
        spelled.append(f"~{group}" if named and value == "null" else override)
    return spelled
