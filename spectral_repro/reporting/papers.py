"""A paper's tables, as its file in conf/paper describes them."""

import shlex
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.compose import compose, options
from spectral_repro.configuration.identity import identity
from spectral_repro.errors import UserError
from spectral_repro.reporting.protocols import Values, differing, split

TRAIN = ("python", "-m", "spectral_repro.train")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        overrides: what composes its configuration, and runs it.
        values: what tells its runs from those of other rows.
        published: mean, std, best and success_rate in percent, as far as published.
    """

    label: str
    overrides: tuple[str, ...]
    values: Values
    published: dict[str, float]

    def command(self, *more: str) -> str:
        return shlex.join([*TRAIN, *self.overrides, *more])


@dataclass(frozen=True)
class Table:
    """Rows that differ in the compared values alone: they share one protocol, the full one."""

    name: str
    title: str
    rows: tuple[Row, ...]
    protocol: Values


@dataclass(frozen=True)
class Paper:
    """The tables of a paper; `compare` holds the dotted prefixes that tell rows apart, `metric` is in percent."""

    name: str
    title: str
    source: str
    compare: tuple[str, ...]
    metric: str
    tables: tuple[Table, ...]

    @property
    def metric_name(self) -> str:
        return self.metric.replace("_", " ").capitalize()

    @property
    def command(self) -> str:
        return shlex.join([*TRAIN, "-m", f"paper={self.name}"])


def load_paper(config: DictConfig | None) -> Paper:
    """The paper of a file in conf/paper, its rows composed as they stand.

    Raises:
        UserError: no paper is given, or rows of one table differ in what the paper does not compare.
    """
    if config is None:
        raise UserError(f"paper=null: name one of {', '.join(options('paper'))}")
    settings = OmegaConf.to_container(config, resolve=True)
    compare = tuple(settings["compare"])
    tables = tuple(_table(settings["name"], key, table, compare) for key, table in settings["tables"].items())
    return Paper(settings["name"], settings["title"], settings["source"], compare, settings["metric"], tables)


def _table(paper: str, name: str, settings: dict, compare: tuple[str, ...]) -> Table:
    rows, protocols = [], []
    for row in settings["rows"]:
        overrides = tuple(row["overrides"])
        values, protocol = split(identity(compose(overrides)), compare)
        published = {key: value for key, value in row.get("published", {}).items() if value is not None}
        rows.append(Row(row["label"], overrides, values, published))
        protocols.append(protocol)
    for row, protocol in zip(rows, protocols, strict=True):
        if differences := differing(protocol, protocols[0]):
            raise UserError(
                f"paper={paper}: in table {name}, the rows {rows[0].label} and {row.label} differ in {', '.join(differences)}, "
                "which paper.compare does not name"
            )
    return Table(name, settings["title"], tuple(rows), protocols[0])
