"""Papers and the rows of their tables in conf/paper and conf/table. Each row is an experiment."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from spectral_repro.configuration.folders import files, find, folders, is_group, parse_value, read_yaml
from spectral_repro.errors import UserError, first_line

PAPER = ("name", "title", "source", "protocol", "reduced", "errata", "compare", "metric", "tables")
TABLE = ("title", "metric", "also", "source", "axis", "against_time", "protocol", "overrides", "rows")
ROW = ("name", "label", "overrides", "grid", "series", "at", "over", "published", "curve")
FORMATTED = ("name", "label", "series", "at")  # fields in which a row with a grid names its values


@dataclass(frozen=True)
class Experiment:
    """The run of a row of a table.

    Attributes:
        protocol: the file of conf/protocol that it is based on; None for the defaults of train.yaml.
        overrides: as on the command line, after those of the whole table.
    """

    protocol: str | None
    overrides: tuple[str, ...]

    def config(self, place: str) -> dict[str, Any]:
        """The experiment as a Hydra file: a defaults list and values.

        Raises:
            UserError: for an override that cannot be read, or is a sweep or similar.
        """
        groups: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for override in self.overrides:
            try:
                (parsed,) = OverridesParser.create().parse_overrides([override])
            except OverrideParseException as error:
                raise UserError(f"{place}: {override}: {first_line(error)}") from error
            if parsed.is_sweep_override() or parsed.is_add() or parsed.is_delete():
                raise UserError(f"{place}: {override}: must be key=value or group=option")
            key = parsed.key_or_group
            if parsed.package is not None or "/" in key or ("." not in key and is_group(key)):
                groups[f"override /{parsed.get_key_element()}"] = parsed.value()
            else:
                *parents, name = key.split(".")
                node = values
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[name] = parsed.value()
        protocol = [f"/protocol/{self.protocol}"] if self.protocol else []
        return {"defaults": [*protocol, *({group: option} for group, option in groups.items())], **values}


def experiment(name: str, *places: Path) -> Experiment | None:
    """The experiment paper/row in a table of these folders, by default of all folders of options; None if there is none."""
    paper, _, row = name.partition("/")
    found = (_experiments(folder, paper).get(row) for folder in places or folders())
    return next(filter(None, found), None)


def row_names(folder: Path) -> list[str]:
    """The experiments of the tables in one folder, as paper/row."""
    places = (folder / "table").glob("*/")
    return sorted(f"{place.name}/{row}" for place in places for row in _experiments(folder, place.name))


def read_paper(name: str) -> dict[str, Any]:
    """The description of a paper: its own file, under ``claims`` that of conf/claim, and under ``tables`` its tables by name,
    in the order of the paper, each row with the override that runs it.

    Raises:
        UserError: if there is no such paper, a file is missing or has unknown keys, or a row has no description.
    """
    path = find("paper", name)
    settings = keys_of(path, keys_of(path, read_yaml(path)).get("paper"), PAPER)
    tables = {}
    for table in settings.get("tables", []):
        place = find(f"table/{name}", table)
        content = read_table(place)
        for row in content["rows"]:
            if experiment(f"{name}/{row['name']}") is None:
                raise UserError(f"{place}: row {row['name']}: no table of {name} gives its overrides")
        rows = [{**row, "overrides": [f"experiment={name}/{row['name']}"]} for row in content["rows"]]
        tables[table] = {key: content[key] for key in content if key not in ("protocol", "overrides")} | {"rows": rows}
    claims: dict[str, Any] = {}
    if any(name in files(folder, "claim") for folder in folders()):
        claims = read_yaml(find("claim", name)) or {}
    return settings | {"tables": tables, "claims": claims}


def read_table(path: Path) -> dict[str, Any]:
    """The content of a table's file, with grids expanded to rows.

    Raises:
        UserError: for an unknown key, or an incomplete row.
    """
    table = keys_of(path, read_yaml(path), TABLE)
    _check_overrides(path, table)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(table.get("rows") or [], 1):
        place = f"{path}: row {number}"
        keys_of(place, row, ROW)
        for key in ("name", "label"):
            if not isinstance(row.get(key), str):
                raise UserError(f"{place}: needs a {key}")
        _check_overrides(place, row)
        rows += _written_out(place, row) if "grid" in row else [row]
    if not isinstance(table.get("title"), str) or not rows:
        raise UserError(f"{path}: needs a title and rows")
    return table | {"rows": rows}


def _written_out(place: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    grid = keys_of(place, row["grid"])
    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    published = {
        key: values if isinstance(values, list) else [values] * len(points) for key, values in row.get("published", {}).items()
    }
    for key, values in published.items():
        if len(values) != len(points):
            raise UserError(f"{place}: published.{key} has {len(values)} values for {len(points)} rows")
    others = {key: value for key, value in row.items() if key not in ("grid", "published")}
    rows = []
    for number, point in enumerate(points):
        try:
            named: dict[str, Any] = {key: str(row[key]).format(**point) for key in FORMATTED if key in row}
            overrides = {"overrides": [each.format(**point) for each in row["overrides"]]} if "overrides" in row else {}
        except (KeyError, ValueError, IndexError) as error:
            raise UserError(f"{place}: {error} is not a name of its grid ({', '.join(grid)})") from error
        if "at" in named:
            named["at"] = parse_value(named["at"])
        own = {key: values[number] for key, values in published.items() if values[number] is not None}
        rows.append({**others, **named, **overrides, **({"published": own} if published else {})})
    return rows


def _experiments(folder: Path, paper: str) -> dict[str, Experiment]:
    """The experiments of all rows with overrides in the tables of a paper in one folder. A row may appear several times."""
    paths = [folder / "table" / paper / f"{file}.yaml" for file in files(folder, f"table/{paper}")]
    return _described(paper, tuple((path, path.stat().st_mtime_ns) for path in paths))


@functools.cache
def _described(paper: str, tables: tuple[tuple[Path, int], ...]) -> dict[str, Experiment]:
    found: dict[str, Experiment] = {}
    for path, _ in tables:
        table = read_table(path)
        for row in table["rows"]:
            if "overrides" not in row:
                continue  # a row of another table
            own = Experiment(table.get("protocol"), (*table.get("overrides", []), *row["overrides"]))
            if found.setdefault(row["name"], own) != own:
                raise UserError(f"{path}: row {row['name']}: another row of {paper} has this name and other overrides")
    return found


def _check_overrides(place: object, content: Mapping[str, Any]) -> None:
    overrides = content.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(each, str) for each in overrides):
        raise UserError(f"{place}: overrides={overrides}: must be a list of strings such as norm=zca")


def keys_of(place: object, content: object, known: Sequence[str] | None = None, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a part of a file that must be keys with values.

    Args:
        place: of the part, for errors.
        content: of the part.
        known: the keys that it may have; None: any.
        needed: the keys that it must have.

    Raises:
        UserError: if it has no keys, an unknown one, or not all that are needed.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{place}: must be keys with values")
    if known and (unknown := [str(key) for key in content if key not in known]):
        raise UserError(f"{place}: {unknown[0]}: no such key; there are {', '.join(known)}")
    if missing := [key for key in needed if content.get(key) is None]:
        raise UserError(f"{place}: needs {missing[0]}")
    return dict(content)
