"""Groups of options and their names on the command line."""

import os
import re
from collections.abc import Sequence

from spectral_repro.configuration.folders import files, folders, is_group
from spectral_repro.configuration.tables import row_names
from spectral_repro.errors import UserError

NO_OPTION = re.compile(r"true|false|nan|[-+]?inf|[-+]?[\d.].*|\{.*", re.IGNORECASE)


def options(group: str) -> list[str]:
    """The options of a group in all folders, in subfolders as folder/option; those of experiments are the rows of tables."""
    found = {option for folder in folders() for option in files(folder, group)}
    return sorted(found | {row for folder in folders() for row in row_names(folder)} if group == "experiment" else found)


PATHS = (
    *("results_dir", "dataset.root", "init.checkpoint", "study.init.checkpoint", "trainer.extend", "corruptions.root"),
    *("run", "runs", "checkpoint", "images", "out", "results", "published"),
)
FOR_HYDRA = re.compile(r"""null|['"\[].*|.*\$\{.*|(choice|glob|range|sort|shuffle)\(.*""", re.DOTALL)  # quoted, a list, a sweep


def spelled_for_hydra(overrides: Sequence[str]) -> list[str]:
    """Overrides in Hydra's grammar: ~norm for norm=null, and paths in quotes.

    Raises:
        UserError: for a group with a value such as a number, for which Hydra would print a traceback, and for an invalid path.
    """
    spelled = []
    for override in overrides:
        group, equals, value = override.partition("=")
        named = equals and re.fullmatch(r"[a-z_]+", group) and (group == "experiment" or is_group(group))
        if equals and not group:
            raise UserError(f"{override}: names no key; write key=value")
        if named and (NO_OPTION.fullmatch(value) or not value.strip("/")):
            raise UserError(f"{override}: must be null, or one of {', '.join(options(group))}")
        if named and value == "null":
            spelled.append(f"~{group}")
        else:
            spelled.append(f"{group}={path_spelled(value, group)}" if group in PATHS else override)
    return spelled


def path_spelled(path: str, key: str) -> str:
    """A path in quotes, with ~ replaced by the home folder. Lists, sweeps and quoted texts do not change. A comma separates
    paths, unless a file or folder has that name.
    """
    exists = os.path.exists(os.path.expanduser(path))
    if not path or (FOR_HYDRA.fullmatch(path) and not exists):
        return path
    if "${" in path:
        raise UserError(f"{key}={path}: ${{ begins the name of another value in a configuration; rename the file or folder")
    paths = path.split(",") if is_several(path) else [path]
    paths = list(map(os.path.expanduser, paths))
    for each in paths:
        _check_path(key, each)
    return ",".join(map(quoted, paths))


def _check_path(key: str, path: str) -> None:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # each command reports it better
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={path}: no such path is possible here ({getattr(error, 'strerror', error)})") from error


def is_several(path: str) -> bool:
    return "," in path and not FOR_HYDRA.fullmatch(path) and not os.path.exists(os.path.expanduser(path))


def quoted(text: str) -> str:
    """A text in quotes, which Hydra takes as it is."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
