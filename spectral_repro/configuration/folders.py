"""Folders of YAML files: conf/, and those of the user."""

import functools
import os
import re
from pathlib import Path
from typing import Any

import yaml

from spectral_repro.errors import UserError, first_line

_PACKAGE = Path(__file__).resolve().parent.parent
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())
OWN_FOLDERS = "SPECTRAL_REPRO_CONFIG_DIR"
NOT_CHOSEN = ("claim", "table")  # folders whose files describe papers and are no options of a run


def folders() -> list[Path]:
    """conf/ and the user's folders, named by --config-dir or the environment variable `OWN_FOLDERS`."""
    named = [Path(each).expanduser().absolute() for each in os.environ.get(OWN_FOLDERS, "").split(os.pathsep) if each]
    return [CONF, *(folder for folder in dict.fromkeys(named) if folder.is_dir())]


def check_names() -> None:
    """
    Raises:
        UserError: if the user has a file with the name of a different one in conf/, which would be used instead.
    """
    for folder in folders()[1:]:
        for group in (path.name for path in CONF.iterdir() if path.is_dir()):
            for name in files(folder, group):
                own, built_in = (place / group / f"{name}.yaml" for place in (folder, CONF))
                if built_in.is_file() and own.read_bytes() != built_in.read_bytes():
                    raise UserError(f"{own}: {group}={name} is an option of conf/, which would be used; rename this file")


def is_group(name: str) -> bool:
    return name not in NOT_CHOSEN and any((folder / name).is_dir() for folder in folders())


def files(folder: Path, group: str) -> list[str]:
    """The YAML files of a group in one folder, without the suffix; those of conf/ are cached."""
    return _listed(folder / group) if folder == CONF else _listed.__wrapped__(folder / group)


@functools.cache
def _listed(place: Path) -> list[str]:
    found = (path.relative_to(place) for path in place.rglob("*.yaml"))
    return sorted(path.with_suffix("").as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def find(group: str, name: str) -> Path:
    """The file of an option in the first folder that has it.

    Raises:
        UserError: if no folder has it.
    """
    for folder in folders():
        if (path := folder / group / f"{name}.yaml").is_file():
            return path
    there = sorted({each for folder in folders() for each in files(folder, group)})
    raise UserError(f"{group}={name}: must be one of {', '.join(there) or 'nothing'}")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, read by `Loader`.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{path}: cannot be read as YAML ({line}{error.problem})") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({first_line(error)})") from error


@functools.cache
def _parsed(path: Path, changed: int) -> object:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def parse_value(text: str) -> Any:
    """The value that a text has in a YAML file read by `read_yaml`; a text that is not YAML stays a text."""
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return text


class Loader(yaml.CSafeLoader):
    """PyYAML's fast loader, which reads like OmegaConf: 1e-3 is a number, a date is a string, a duplicate key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} occurs twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
