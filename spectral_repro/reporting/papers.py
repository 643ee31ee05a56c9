"""Tables of papers, read from conf/paper and conf/table, with published values from there or from a file of the user."""

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from spectral_repro import configuration
from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import CONF, files, folders, read_yaml
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten, identity, within
from spectral_repro.configuration.tables import Experiment, experiment, keys_of
from spectral_repro.errors import UserError, first_line
from spectral_repro.reporting.cache import cached, fingerprint
from spectral_repro.reporting.claims import Claim, read_claim
from spectral_repro.reporting.intervals import Statistic
from spectral_repro.reporting.metrics import METRICS, Metric
from spectral_repro.reporting.protocols import Values, differing, split
from spectral_repro.reporting.runs import Run
from spectral_repro.workers import Mapper

ABOUT_RUNS = ("claim", "metrics", "paper", "suite", "table")  # groups that do not change a run
TRAIN = ("python", "-m", "spectral_repro.train")
PUBLISHED = ("mean", "std", "low", "high", "best", "success_rate")
KEYS_OF_A_FILE = ("source", "rows")
STEP_TIMES = "step_times.csv"
OTHER_FILES = ("claims", "curves", "index", "runs", "tables")  # of a report, without their suffixes
LONGEST_NAME = 60
NETWORK = (
    *("model", "dataset.image_size", "dataset.channels", "dataset.batch_size", "precision"),
    *("trainer.compile", "trainer.autotune", "trainer.matmul_precision"),
)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        overrides: of its configuration, on the command line of train.
        values: that distinguish its runs from those of other rows; None if they were not composed, because no run can match.
        published: mean, median, std, low and high (a 95 % interval of the mean) and best in the unit of the metric,
            success_rate in percent, and the means of the other metrics by name; only values that were published.
        series: its line in a figure with an axis; None for a row that is not on the axis.
        at: its place on the axis.
        over: the range of the first column of metrics.csv over which its value is averaged; None: the last row.
        curve: the published training loss of each epoch, from the first on; None for unknown values.
        step_time: measured time of a training step in milliseconds, from a file of suite=steps; None without one.
    """

    label: str
    overrides: tuple[str, ...]
    values: Values | None
    published: dict[str, float]
    series: str | None = None
    at: float | None = None
    over: tuple[float, float] | None = None
    curve: tuple[float | None, ...] = ()
    step_time: float | None = None

    def command(self, *more: str) -> str:
        return shlex.join([*TRAIN, *self.overrides, *more])


@dataclass(frozen=True)
class Axis:
    """The horizontal axis for rows with a series."""

    label: str
    log: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a paper, or a comparison of runs.

    Its rows differ only in the compared values.

    Attributes:
        metric: that is compared.
        source: of the published values.
        protocol: all other values: for a paper those of the full protocol, for a comparison those of the runs.
        also: metrics with a further column.
        baseline: for a comparison, the label of the row that the others are compared with; None for a table of a paper.
        against_time: for a figure of the metric against the time of a step, the label of the row whose time is 1; None: no such
            figure.
        times_from: a sentence about the origin of the rows' ``step_time``; empty if they have none.
    """

    name: str
    title: str
    metric: Metric
    source: str
    rows: tuple[Row, ...]
    protocol: Values
    axis: Axis | None = None
    also: tuple[Metric, ...] = ()
    baseline: str | None = None
    against_time: str | None = None
    times_from: str = ""

    @property
    def statistic(self) -> Statistic:
        """The statistic over several runs that was published, and so is compared."""
        return "median" if any("median" in row.published for row in self.rows) else "mean"

    @property
    def series(self) -> list[str]:
        return list(dict.fromkeys(row.series for row in self.rows if row.series))

    @property
    def references(self) -> list[str]:
        """The labels of rows that are not on the axis."""
        return [row.label for row in self.rows if not row.series]


@dataclass(frozen=True)
class Paper:
    """The tables and claims of a paper, or the tables of a comparison of runs.

    Attributes:
        compare: keys, or prefixes of keys, in which rows differ.
        command: makes the runs of a paper, or the page of a comparison.
        protocol: of its trainings and measurements, in words.
        reduced: whether even its full protocol is smaller than those of the papers whose claims it judges.
        errata: errors in the authors' code, and its differences to the paper.
    """

    name: str
    title: str
    source: str
    compare: tuple[str, ...]
    tables: tuple[Table, ...]
    command: str
    claims: tuple[Claim, ...] = ()
    protocol: str = ""
    reduced: bool = False
    errata: tuple[str, ...] = ()


def file_name(text: str) -> str:
    """A name for the files of a table that is called after a text: in the same folder, and of no other file of a report."""
    name = re.sub(r"[^\w.-]+", "_", text).strip("._")[:LONGEST_NAME] or "table"
    return f"{name}_table" if name.lower() in OTHER_FILES else name


def identities(rows: Iterable[tuple[str, ...]], mapper: Mapper = map) -> dict[tuple[str, ...], Values]:
    """The identity that the overrides of each row compose to. Results are cached as long as conf/ does not change.

    Rows of papers that differ in single values alone, such as norm.group_size, are composed once.

    Args:
        rows: the overrides of each row.
        mapper: used like the built-in map for several rows; it may use other processes.
    """

    def computed(_: object, missing: Iterable[tuple[str, ...]]) -> list[Values]:
        alike = defaultdict(list)
        for overrides in missing:
            options, values = _options_and_values(overrides)
            alike[options, tuple(sorted(values))].append((overrides, values))
        parts = (mapper if len(alike) > 1 else map)(_identities, list(alike.values()))
        found = {overrides: values for part in parts for overrides, values in part.items()}
        return [found[overrides] for overrides in missing]

    state = _conf_state()
    keys = {overrides: fingerprint(state, overrides, list(map(_described, overrides))) for overrides in rows}
    return cached(keys, lambda overrides: identity(compose(overrides)), computed)


def _identities(rows: Sequence[tuple[tuple[str, ...], Values]]) -> dict[tuple[str, ...], Values]:
    """The identities of rows that choose the same options and set the same keys.

    The first row is composed, and the configuration gets the values of the others. If something that is composed after the row
    changes one of its values, every row is composed.
    """
    (first, values), *others = rows
    config = compose(first)
    found = {first: identity(config)}
    settled = all(OmegaConf.select(config, key) == value for key, value in values.items())
    for overrides, values in others:
        if settled:
            for key, value in values.items():
                OmegaConf.update(config, key, value)
        else:
            config = compose(overrides)
        found[overrides] = identity(config)
    return found


def _options_and_values(overrides: tuple[str, ...]) -> tuple[str, Values]:
    """The options that a row of a paper chooses, and the values that it sets by key; other overrides as they are."""
    row = _described(overrides[0]) if len(overrides) == 1 else None
    if row is None:
        return repr(overrides), {}
    content = row.config(overrides[0])
    return repr(content.pop("defaults")), flatten(content)


def _described(override: str) -> Experiment | None:
    key, _, value = override.partition("=")
    return experiment(value) if key == "experiment" else None


def default_protocol(choices: Iterable[str]) -> Values:
    """The protocol of conf/train.yaml with these options of its groups."""
    (values,) = identities([tuple(choices)]).values()
    return split(values, ())[1]


def published() -> list[str]:
    """The papers with claims."""
    return options("claim")


def _conf_state() -> str:
    """A hash of all files that decide what overrides compose to, except the rows of tables."""
    sources = [
        folder / group / f"{name}.yaml"
        for folder in folders()
        for group in sorted(path.name for path in folder.glob("*/"))
        if group not in ABOUT_RUNS
        for name in files(folder, group)
    ]
    sources += sorted(CONF.glob("*.yaml"))
    sources += sorted(Path(configuration.__file__).parent.glob("*.py"))
    return fingerprint([(str(each), each.read_bytes()) for each in sources])


def load_paper(settings: DictConfig | dict[str, Any], runs: Sequence[Run] | None = None, mapper: Mapper = map) -> Paper:
    """Makes a paper from what `read_paper` returns, and composes the configurations of its rows.

    Args:
        settings: the content of its files.
        runs: all runs. If no run has the data set or the network of a table, only the first row of the table is composed.
            None: all rows are composed.
        mapper: as for `identities`.

    Raises:
        UserError: if a table has an unknown metric, or an axis that does not fit its rows, or if rows of a table differ in keys
            that the paper does not compare.
    """
    content: Any = OmegaConf.to_container(settings, resolve=True) if isinstance(settings, DictConfig) else settings
    settings = content
    compare = tuple(settings["compare"])
    rows_of = {name: [tuple(row["overrides"]) for row in table["rows"]] for name, table in settings["tables"].items()}
    composed = identities([rows[0] for rows in rows_of.values() if rows], mapper)
    known = None if runs is None or _compares_networks(compare) else _data_and_networks(run.identity for run in runs)
    needed = [rows for rows in rows_of.values() if rows and (known is None or known & _data_and_networks([composed[rows[0]]]))]
    composed |= identities([overrides for rows in needed for overrides in rows if overrides not in composed], mapper)
    parts = {overrides: split(each, compare) for overrides, each in composed.items()}
    defaults = {"metric": settings["metric"], "source": settings["source"], "also": []}
    tables = tuple(
        _table(f"paper={settings['name']}: in table {name},", name, defaults | table, parts)
        for name, table in settings["tables"].items()
    )
    place = f"paper={settings['name']}: in claim"
    claims = tuple(read_claim(place, id, claim) for id, claim in keys_of(place, settings.get("claims", {})).items())
    _check_claims(place, claims, tables)
    words = {"protocol": settings.get("protocol", ""), "errata": tuple(settings.get("errata", ()))}
    reduced = settings.get("reduced", False)
    command = shlex.join([*TRAIN, "-m", f"paper={settings['name']}"])
    names = settings["name"], settings["title"], settings["source"]
    return Paper(*names, compare, tables, command, claims, **words, reduced=reduced)


def _compares_networks(compare: tuple[str, ...]) -> bool:
    return any(within(key, NETWORK) or within(parent, (key,)) for key in compare for parent in NETWORK)


def _data_and_networks(identities: Iterable[Values]) -> set[tuple[str, object]]:
    """The data sets and networks: runs need those of a row to belong to it, or to estimate its cost."""
    pairs = [(("data", each.get("dataset.name")), ("network", network(each))) for each in identities]
    return {each for pair in pairs for each in pair}


def network(values: Values) -> str:
    """A text of the values that decide the speed of a training, except the compared treatments and the machine."""
    return repr(sorted((key, value) for key, value in values.items() if within(key, NETWORK) and key != "model.num_classes"))


def _check_claims(place: str, claims: Iterable[Claim], tables: Iterable[Table]) -> None:
    labels = {table.name: {row.label for row in table.rows} for table in tables}
    for claim in claims:
        for number in claim.numbers:
            if number.table and number.table not in labels:
                raise UserError(f"{place} {claim.id}, table={number.table}: must be one of {', '.join(labels)}")
            if number.table and (unknown := {*number.rows} - labels[number.table]):
                raise UserError(f"{place} {claim.id}, {min(unknown)}: no row of table {number.table} has this label")


def _table(place: str, name: str, settings: dict[str, Any], parts: Mapping[tuple[str, ...], tuple[Values, Values]]) -> Table:
    if name != file_name(name):
        raise UserError(f"{place} its name cannot be used for files; rename it to {file_name(name)}.yaml")
    names = [settings["metric"], *settings["also"]]
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"{place} metric={unknown[0]}: must be one of {', '.join(METRICS)}")
    metric, *also = (METRICS[name] for name in names)
    labels = [row["label"] for row in settings["rows"]]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"{place} several rows have the label {twice[0]}")
    rows: list[Row] = []
    protocols: list[Any] = []
    for row in settings["rows"]:
        overrides = tuple(row["overrides"])
        values, protocol = parts.get(overrides, (None, None))
        published = {key: value for key, value in row.get("published", {}).items() if value is not None}
        _check_published(f"{place} {row['label']}", published, also)
        at, over = row.get("at"), row.get("over")
        if metric.study and at is not None:
            over = (at, at)
        curve = tuple(row.get("curve", ()))
        rows.append(Row(row["label"], overrides, values, published, row.get("series"), at, over and tuple(over), curve))
        protocols.append(protocol)
    for row, protocol in zip(rows, protocols, strict=True):
        if protocol is not None and (differences := differing(protocol, protocols[0])):
            raise UserError(
                f"{place} the rows {rows[0].label} and {row.label} differ in {', '.join(differences)}, "
                "which paper.compare does not name"
            )
    axis = _axis(f"{place} axis", settings["axis"]) if "axis" in settings else None
    _check_points(place, axis, rows)
    reference = settings.get("against_time")
    if reference is not None and reference not in [row.label for row in rows]:
        raise UserError(f"{place} against_time={reference}: must be the label of a row, whose time the others are divided by")
    shared = settings["title"], metric, settings["source"], tuple(rows), protocols[0], axis, tuple(also)
    return Table(name, *shared, against_time=reference)


def _axis(place: str, settings: object) -> Axis:
    axis = Axis(**keys_of(place, settings, [field.name for field in fields(Axis)], needed=("label",)))
    if not isinstance(axis.log, bool):
        raise UserError(f"{place}: log={axis.log}: must be true or false")
    return axis


def _check_points(place: str, axis: Axis | None, rows: list[Row]) -> None:
    for row in rows:
        if (row.series is None) != (row.at is None and row.over is None):
            raise UserError(f"{place} the row {row.label} has only one of series and at; a point on the axis needs both")
        if row.at is not None and (isinstance(row.at, bool) or not isinstance(row.at, int | float)):
            raise UserError(f"{place} the row {row.label} has at={row.at}; it must be a number")
        if axis and axis.log and row.at is not None and row.at <= 0:
            raise UserError(f"{place} the row {row.label} has at={row.at:g}; a logarithmic axis needs a number > 0")
    if (axis is not None) != any(row.series for row in rows):
        raise UserError(f"{place} an axis needs rows with series and at, and such rows need an axis")


def supply(paper: Paper, path: Path) -> Paper:
    """The paper with published values from a YAML file.

    The file has papers, and in each of them tables with ``source``, a text, and ``rows``: under the label of a row its mean,
    median, std, low, high, best or success_rate, or means under the names of the other metrics of the table.

    Raises:
        UserError: if it cannot be read, names something unknown, or has a value that is not a number.
    """
    place = f"published={path}"
    content = keys_of(place, read_yaml(path))
    _known(content, options("paper"), place)
    tables = keys_of(f"{place}: {paper.name}", content.get(paper.name, {}))
    _known(tables, [table.name for table in paper.tables], f"{place}: {paper.name}")

    def supplied(table: Table) -> Table:
        return _supplied(table, tables[table.name], f"{place}: {paper.name}.{table.name}") if table.name in tables else table

    return replace(paper, tables=tuple(map(supplied, paper.tables)))


def supply_times(paper: Paper, path: Path) -> Paper:
    """The paper with measured times of training steps from a CSV file of suite=steps; unchanged if there is no such file.

    The file has the columns row, the name of an experiment of the paper, and milliseconds. If it has a column paper, only the
    lines of this paper are used. The columns batch_size, precision and threads describe the measurement.

    Raises:
        UserError: if it cannot be read, lacks a column, or has a time that is not a positive number.
    """
    if not path.is_file():
        return paper
    try:
        frame = pd.read_csv(path, dtype={"row": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({first_line(error)})") from error
    if missing := [column for column in ("row", "milliseconds") if column not in frame]:
        raise UserError(f"{path}: has no column {missing[0]}; it needs row and milliseconds")
    frame = frame[frame["paper"] == paper.name] if "paper" in frame else frame
    times = dict(zip(frame["row"], pd.to_numeric(frame["milliseconds"], errors="coerce"), strict=True))
    if wrong := [row for row, time in times.items() if not (isfinite(time) and time > 0)]:
        raise UserError(f"{path}: row {wrong[0]}: milliseconds must be a positive number")
    terms = {"precision": "{}", "threads": "threads: {}", "batch_size": "batches of {}"}
    known = [(form, frame[column].unique()) for column, form in terms.items() if column in frame]
    how = ", ".join(form.format(*values) for form, values in known if len(values) == 1)
    source = f"Times of a step were measured separately, by bench suite=steps ({STEP_TIMES}{how and f'; {how}'})"

    def timed(row: Row) -> Row:
        return replace(row, step_time=times.get(row.overrides[0].removeprefix(f"experiment={paper.name}/")))

    tables = [replace(table, rows=tuple(map(timed, table.rows)), times_from=source) for table in paper.tables]
    return replace(paper, tables=tuple(tables)) if times else paper


def _supplied(table: Table, settings: Any, place: str) -> Table:
    settings = keys_of(place, settings)
    _known(settings, KEYS_OF_A_FILE, place)
    rows = keys_of(f"{place}.rows", settings.get("rows"))
    _known(rows, [row.label for row in table.rows], f"{place}.rows")
    for label, values in rows.items():
        where = f"{place}.rows.{label}"
        _check_published(where, keys_of(where, values), table.also)
    new = tuple(replace(row, published=dict(rows[row.label])) if row.label in rows else row for row in table.rows)
    return replace(table, rows=new, source=str(settings.get("source", "a file of the user")))


def _check_published(place: str, values: Mapping[str, Any], also: Iterable[Metric]) -> None:
    _known(values, ("median", *PUBLISHED, *(metric.name for metric in also)), place)
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{place}.{key}={value}: must be a number")


def _known(given: Mapping[str, Any], names: list[str] | tuple[str, ...], place: str) -> None:
    if unknown := [name for name in given if name not in names]:
        raise UserError(f"{place}: {unknown[0]} is unknown; known are {', '.join(names)}")
