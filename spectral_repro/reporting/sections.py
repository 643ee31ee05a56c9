"""A paper's tables filled with runs, one section for each protocol: runs of different protocols never meet in a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from spectral_repro.configuration.compose import compose, options
from spectral_repro.configuration.identity import digest, identity
from spectral_repro.reporting.papers import Paper, Row, Table
from spectral_repro.reporting.protocols import Values, counted, describe, differing, split
from spectral_repro.reporting.runs import Run


@dataclass(frozen=True)
class Entry:
    """A row and its runs under one protocol."""

    row: Row
    runs: tuple[Run, ...]

    def in_state(self, *states: str) -> list[Run]:
        return [run for run in self.runs if run.state in states]

    @property
    def measured(self) -> list[Run]:
        """Those with a value: the finished ones and, where the row looks at a range, those that have come to its end."""
        end = self.row.over[1] if self.row.over else float("inf")
        return [run for run in self.runs if run.state == "finished" or (run.state != "diverged" and len(run.metrics) >= end)]


@dataclass(frozen=True)
class Section:
    """A table under one protocol."""

    paper: Paper
    table: Table
    protocol: Values
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return self.table.name if self.full else f"{self.table.name}-{digest(self.protocol)}"

    @property
    def runs(self) -> list[Run]:
        return list(dict.fromkeys(run for entry in self.entries for run in entry.runs))

    @property
    def results(self) -> list[Run]:
        """The runs that have a value or diverged."""
        ended = {run for entry in self.entries for run in (*entry.measured, *entry.in_state("diverged"))}
        return [run for run in self.runs if run in ended]

    @property
    def full(self) -> bool:
        return not differing(self.protocol, self.table.protocol)

    @property
    def terms(self) -> list[str]:
        """The protocol in words."""
        sizes = next((run.summary["images"] for run in self.runs if "images" in run.summary), {})
        images = {f"dataset.{split}_images": count for split, count in sizes.items()}
        return describe(self.protocol, self.table.protocol, {run.scale for run in self.runs}, images)

    @property
    def label(self) -> str:
        return ", ".join(self.terms)

    @property
    def published(self) -> bool:
        """Are there published values for this data set?"""
        same_data = self.protocol.get("dataset.name") == self.table.protocol.get("dataset.name")
        return same_data and any(row.published for row in self.table.rows)

    @property
    def published_epochs(self) -> int:
        """The length of the published training curves; 0 if there are none for this data set."""
        return max(len(row.curve) for row in self.table.rows) if self.published else 0

    @property
    def across(self) -> list[str]:
        """What lies between our values and the published ones."""
        return ["protocols"] * (not self.full) + ["machines"] * self.table.metric.timing

    @property
    def unrun(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.runs]

    @cached_property
    def commands(self) -> list[str]:
        """What to run for each of the rows without a run, where a scale gives this protocol."""
        missing = [entry.row for entry in self.unrun]
        if self.full:
            return [row.command() for row in missing]
        for scale in sorted({run.scale for run in self.runs}) if missing else ():
            option = f"scale={scale}"
            if scale in options("scale"):
                _, protocol = split(identity(compose([*missing[0].overrides, option])), self.paper.compare)
                if not differing(protocol, self.protocol):
                    return [row.command(option) for row in missing]
        return []


@dataclass(frozen=True)
class Report:
    """The sections of a paper, and the number of runs that belong to no row of it."""

    paper: Paper
    sections: tuple[Section, ...]
    elsewhere: int

    @property
    def remarks(self) -> list[str]:
        if not any(section.runs for section in self.sections):
            return [f"no run belongs to a row of paper={self.paper.name}; all of them are made by {self.paper.command}"]
        if self.elsewhere:
            return [f"{counted(self.elsewhere, 'run')} left out: no row of paper={self.paper.name} has their values"]
        return []


def gather(paper: Paper, runs: Iterable[Run]) -> Report:
    """Sections of each table, those with runs first: the full protocol, then every other by its label.

    A run belongs to the rows that agree with it under the compared keys. Where rows of several tables do, another protocol than
    theirs becomes a section of the table whose full protocol differs from it in the fewest keys.
    """
    parts = [(run, *split(run.identity, paper.compare)) for run in runs]
    protocols = {table.name: [table.protocol] for table in paper.tables}
    elsewhere = 0
    for _, values, protocol in parts:
        distances = {
            table.name: len(differing(protocol, table.protocol))
            for table in paper.tables
            if any(row.values == values for row in table.rows)
        }
        for name, distance in distances.items():
            if distance == min(distances.values()) and protocol not in protocols[name]:
                protocols[name].append(protocol)
        elsewhere += not distances

    def section(table: Table, protocol: Values) -> Section:
        def entry(row: Row) -> Entry:
            own = [run for run, values, of in parts if values == row.values and of == protocol]
            return Entry(row, tuple(sorted(own, key=lambda run: run.seed)))

        return Section(paper, table, protocol, tuple(map(entry, table.rows)))

    sections = [section(table, protocol) for table in paper.tables for protocol in protocols[table.name]]
    order = {table.name: place for place, table in enumerate(paper.tables)}
    sections.sort(key=lambda each: (order[each.table.name], not each.runs, not each.full, each.label))
    return Report(paper, tuple(sections), elsewhere)
