"""Published values that a user supplies, in the place of those in conf/table or where there are none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from spectral_repro.configuration.groups import options
from spectral_repro.errors import UserError, first_line
from spectral_repro.reporting.papers import Paper, Table
from spectral_repro.reporting.tables import PUBLISHED

KEYS = ("source", "rows")


def supply(paper: Paper, path: Path) -> Paper:
    """The paper with the published values that a YAML file has of it.

    The file names papers, their tables, and under each of these ``source``, where the values come from, and ``rows``: a row's
    label with its mean, median, std, low, high, best or success_rate, or means under the names of the metrics beside it.

    Raises:
        UserError: it cannot be read, names what there is not, or has a value that is no number.
    """
    place = f"published={path}"
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{place}: cannot be read as YAML ({first_line(error)})") from error
    _known(_mapping(content, place), options("paper"), place)
    tables = _mapping(content.get(paper.name, {}), f"{place}: {paper.name}")
    _known(tables, [table.name for table in paper.tables], f"{place}: {paper.name}")

    def supplied(table: Table) -> Table:
        return _supplied(table, tables[table.name], f"{place}: {paper.name}.{table.name}") if table.name in tables else table

    return replace(paper, tables=tuple(map(supplied, paper.tables)))


def _supplied(table: Table, settings: object, place: str) -> Table:
    _known(_mapping(settings, place), KEYS, place)
    rows = _mapping(settings.get("rows"), f"{place}.rows")
    _known(rows, [row.label for row in table.rows], f"{place}.rows")
    allowed = ("median", *PUBLISHED, *(metric.name for metric in table.also))
    for label, values in rows.items():
        where = f"{place}.rows.{label}"
        _known(_mapping(values, where), allowed, where)
        for key, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"{where}.{key}={value}: must be a number")
    new = tuple(replace(row, published=dict(rows[row.label])) if row.label in rows else row for row in table.rows)
    return replace(table, rows=new, source=str(settings.get("source", "a file of the user's")))


def _mapping(value: object, place: str) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{place}: must be names with what belongs to them")
    return value


def _known(given: Mapping[str, object], names: list[str] | tuple[str, ...], place: str) -> None:
    if unknown := [name for name in given if name not in names]:
        raise UserError(f"{place}: no {unknown[0]} there; there are {', '.join(names)}")
