"""Tables with their runs, one section for each protocol: runs of different protocols are never in one table."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import pandas as pd

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import digest, within
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError
from spectral_repro.reporting.metrics import Metric
from spectral_repro.reporting.naming import chosen_options
from spectral_repro.reporting.papers import Paper, Row, Table, default_protocol, identities
from spectral_repro.reporting.protocols import Values, counted, describe, differing, hashable, is_reduced, may_differ, split
from spectral_repro.reporting.runs import Run

DERIVED = ("dataset.load",)  # values that follow from others
NAMED_BEFORE = ("model=", "dataset=", "study=")  # options that `describe` names


@dataclass(frozen=True)
class Choice:
    """The chosen value of a tuned row, such as a learning rate.

    Attributes:
        value: in words, such as lr = 0.1.
        trials: number of values that were tried.
        validation: mean validation accuracy over its seeds, in percent.
        runs: the runs of all values.
        remark: on values with fewer seeds than others; empty if all have the same.
    """

    value: str
    trials: int
    validation: float
    runs: tuple[Run, ...]
    remark: str


@dataclass(frozen=True)
class Entry:
    """A row and its runs under one protocol."""

    row: Row
    runs: tuple[Run, ...]
    choice: Choice | None = None

    def in_state(self, *states: str) -> list[Run]:
        return [run for run in self.runs if run.state in states]

    @property
    def measured(self) -> list[Run]:
        """The runs with a value: finished ones and, for a row that averages over a range, those that reached its end."""
        end = self.row.over[1] if self.row.over else float("inf")
        return [run for run in self.runs if run.state == "finished" or (run.state != "diverged" and len(run.metrics) >= end)]

    @property
    def repeated(self) -> dict[int, list[Run]]:
        """The seeds with several measured runs. Their mean counts as one value."""
        runs = defaultdict(list)
        for run in self.measured:
            runs[run.seed].append(run)
        return {seed: own for seed, own in runs.items() if len(own) > 1}

    @property
    def successes(self) -> pd.Series:
        """By seed: 100 if its runs finished, 0 if one of them diverged."""
        ended = self.in_state("finished", "diverged")
        return by_seed(((run.seed, 100.0 * (run.state == "finished")) for run in ended), min)


def by_seed(values: Iterable[tuple[int, float]], statistic: Callable[[Iterable[float]], float] = fmean) -> pd.Series:
    """One value per seed, in ascending order: the mean of its runs, or another statistic; NaN for a seed without values."""
    found: defaultdict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        found[seed] += [value] if value == value else []
    seeds = sorted(found)
    return pd.Series([statistic(found[seed]) if found[seed] else float("nan") for seed in seeds], seeds, dtype=float)


@dataclass(frozen=True, eq=False)
class Section:
    """A table with the runs of one protocol; for a table of times, on one machine.

    Attributes:
        machine: of the runs, for a table of times with runs from several machines; None otherwise.
    """

    paper: Paper
    table: Table
    protocol: Values
    entries: tuple[Entry, ...]
    machine: str | None = None

    @property
    def name(self) -> str:
        if self.exact and not self.machine:
            return self.table.name
        return f"{self.table.name}-{digest(self.protocol | ({'machine': self.machine} if self.machine else {}))}"

    @cached_property
    def runs(self) -> list[Run]:
        return list(dict.fromkeys(run for entry in self.entries for run in entry.runs))

    @cached_property
    def results(self) -> list[Run]:
        """The runs that have a value, or diverged."""
        ended = {run for entry in self.entries for run in (*entry.measured, *entry.in_state("diverged"))}
        return [run for run in self.runs if run in ended]

    def values(self, entry: Entry, metric: Metric) -> pd.Series:
        """A metric of the measured runs of an entry, by seed; NaN if its runs do not have it.

        Empty for a time if the runs of the section come from several machines.
        """
        if metric.timing and len(self.machines) > 1:
            return by_seed([])
        return by_seed((run.seed, metric.of(run.metrics, entry.row.over)) for run in entry.measured)

    @cached_property
    def machines(self) -> list[str]:
        """The machines of its results."""
        return sorted({run.machine for run in self.results})

    @cached_property
    def exact(self) -> bool:
        return not differing(self.protocol, self.table.protocol)

    @cached_property
    def full(self) -> bool:
        """Whether it has the protocol of the table, up to precision, compilation and memory format."""
        return all(may_differ(key, self.table.protocol) for key in differing(self.protocol, self.table.protocol))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The number of images by split (train, test), without splits in which its runs differ; empty if it is unknown."""
        first, *others = [run.summary["images"] for run in self.runs if "images" in run.summary] or [{}]
        return {split: count for split, count in first.items() if all(each.get(split) == count for each in others)}

    @cached_property
    def terms(self) -> list[str]:
        """The protocol in words; for a comparison, its options and the values that differ from their defaults."""
        images = {f"dataset.{split}_images": count for split, count in self.sizes.items()}
        scales = {run.scale for run in self.runs}
        machine = [self.machine] if self.machine else []
        if not self.table.baseline:
            return describe(self.protocol, self.table.protocol, scales, images) + machine
        compared = {key for row in self.table.rows for key in row.values or ()}
        choices = chosen_options(self.protocol)
        reference = {key: value for key, value in default_protocol(choices).items() if key not in compared}
        chosen = [each for each in choices if not each.startswith(NAMED_BEFORE)]
        return describe(self.protocol, reference, scales, images) + chosen + machine

    @property
    def label(self) -> str:
        return ", ".join(self.terms)

    @property
    def published(self) -> bool:
        """Whether there are published values."""
        return any(row.published for row in self.table.rows)

    @property
    def published_epochs(self) -> int:
        """The length of the published training curves; 0 if there are none."""
        return max(len(row.curve) for row in self.table.rows) if self.published else 0

    @property
    def across(self) -> list[str]:
        """What differs between the measured and the published values: protocols, machines, or both."""
        return ["protocols"] * (not self.full) + ["machines"] * self.table.metric.timing

    @property
    def unrun(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.runs]

    @cached_property
    def asked(self) -> tuple[str, ...] | None:
        """The overrides that give a row this protocol; None if there are none, and for a comparison."""
        if self.table.baseline:
            return None
        if self.exact:
            return ()
        for scale in sorted({run.scale for run in self.runs} & {*options("scale")}):
            asked: tuple[str, ...] = (f"scale={scale}",)
            for _ in range(2):
                (values,) = identities([(*self.table.rows[0].overrides, *asked)]).values()
                _, protocol = split(values, self.paper.compare)
                keys = differing(protocol, self.protocol)
                if not keys:
                    return asked if self._is_taken(asked) else None
                own = [key for key in keys if key in self.protocol and not within(key, DERIVED)]
                asked += tuple(f"{'' if key in protocol else '++'}{key}={json.dumps(self.protocol[key])}" for key in own)
        return None

    def _is_taken(self, asked: tuple[str, ...]) -> bool:
        """Whether train accepts these overrides. It refuses keys of other versions of this project."""
        if not any(override.startswith("++") for override in asked):
            return True
        try:
            check(compose([*self.table.rows[0].overrides, *asked]))
        except UserError:
            return False
        return True

    @property
    def commands(self) -> list[str]:
        """A command for each row without a run; empty if no overrides give this protocol."""
        return [] if self.asked is None else [entry.row.command(*self.asked) for entry in self.unrun]


@dataclass(frozen=True)
class Report:
    """The sections of a paper or a comparison, and remarks about runs that are in none of them."""

    paper: Paper
    sections: tuple[Section, ...]
    remarks: tuple[str, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """The runs of all rows, for tuned rows those of all values."""
        entries = [entry for section in self.sections for entry in section.entries]
        return list(dict.fromkeys(run for entry in entries for run in (entry.choice.runs if entry.choice else entry.runs)))

    def only(self, keep: Callable[[Section], bool]) -> "Report":
        """The report with only the sections, and their tables, for which ``keep`` is true."""
        kept = tuple(filter(keep, self.sections))
        return Report(replace(self.paper, tables=tables_of(kept)), kept)


def tables_of(sections: Iterable[Section]) -> tuple[Table, ...]:
    """The tables of sections, each once."""
    return tuple({section.table.name: section.table for section in sections}.values())


def by_machine(section: Section) -> list[Section]:
    """Splits a section of times into one for each machine; other sections are unchanged."""
    machines = sorted({run.machine for run in section.runs})
    if not section.table.metric.timing or len(machines) < 2:
        return [section]
    return [
        replace(
            section,
            machine=machine,
            entries=tuple(
                replace(entry, runs=tuple(run for run in entry.runs if run.machine == machine)) for entry in section.entries
            ),
        )
        for machine in machines
    ]


def gather(paper: Paper, runs: Iterable[Run]) -> Report:
    """The sections of each table. Those with runs come first: the full protocol, then the others by their label.

    A run belongs to the rows with the same compared values. A protocol other than the full one becomes a section if it is
    reduced (`is_reduced`), or if it has the same data set and its runs were started as experiments of the paper. If rows of
    several tables match, the run belongs to the table whose full protocol differs in the fewest keys.
    """
    groups = defaultdict(list)  # runs of one protocol and row
    for run in runs:
        values, protocol = split(run.identity, paper.compare)
        groups[hashable(values), hashable(protocol)].append((run, protocol))
    tables_of = defaultdict(list)
    for table in paper.tables:
        for row_values in dict.fromkeys(hashable(row.values) for row in table.rows if row.values is not None):
            tables_of[row_values].append(table)
    protocols = {table.name: [table.protocol] for table in paper.tables}
    elsewhere = 0
    for (run_values, _), members in groups.items():
        protocol = members[0][1]
        own = [run for run, _ in members if run.paper in (paper.name, None)]
        distances = {table.name: len(differing(protocol, table.protocol)) for table in tables_of[run_values]}
        for name, distance in distances.items():
            full = protocols[name][0]
            same_data = protocol.get("dataset.name") == full.get("dataset.name")
            fits = any(same_data if run.paper else is_reduced(protocol, full) for run in own)
            if distance == min(distances.values()) and protocol not in protocols[name] and fits:
                protocols[name].append(protocol)
        elsewhere += 0 if any(protocol in protocols[name] for name in distances) else len(own)

    def section(table: Table, protocol: Values) -> Section:
        common = hashable(protocol)

        def entry(row: Row) -> Entry:
            own = [run for run, _ in groups.get((hashable(row.values), common), ())]
            return Entry(row, tuple(sorted(own, key=lambda run: run.seed)))

        return Section(paper, table, protocol, tuple(map(entry, table.rows)))

    sections = [
        each for table in paper.tables for protocol in protocols[table.name] for each in by_machine(section(table, protocol))
    ]
    measured = {each.table.name for each in sections if each.runs and each.full}
    sections = [each for each in sections if each.runs or each.table.name not in measured]
    order = {table.name: place for place, table in enumerate(paper.tables)}
    sections.sort(key=lambda each: (order[each.table.name], not each.runs, not each.full, not each.exact, each.label))
    remarks: tuple[str, ...] = ()
    if not any(section.runs for section in sections):
        remarks = (f"no run belongs to a row of paper={paper.name}; all of them are made by {paper.command}",)
    elif elsewhere:
        remarks = (f"{counted(elsewhere, 'run')} left out: no row of paper={paper.name} has their values and protocol",)
    return Report(paper, tuple(sections), remarks)
