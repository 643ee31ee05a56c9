"""What the runs that there are say about a paper's claims."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from spectral_repro.reporting.claims import SUCCESS, Claim, Number
from spectral_repro.reporting.intervals import interval, rate_interval
from spectral_repro.reporting.metrics import METRICS, Metric
from spectral_repro.reporting.sections import Entry, Report, Section
from spectral_repro.reporting.statistics import by_seed

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]
FEWEST = 3  # seeds that an interval needs


@dataclass(frozen=True)
class Finding:
    """One number of a claim, as measured under one protocol.

    Attributes:
        section: where the runs are; None for a file that bench wrote.
        low, high: 95 % interval of the mean; of a number without chance, the number.
        seeds: how many runs (or pairs of the same seed) it is a mean of; 0 for a number without chance.
        published: the same of the published values; NaN where they are not known.
    """

    number: Number
    section: Section | None
    mean: float
    low: float
    high: float
    seeds: int
    published: float
    verdict: Verdict

    @property
    def full(self) -> bool:
        return self.section is None or self.section.full

    @property
    def form(self) -> str:
        if self.section is None or self.number.ratio_to:
            return ".3g"
        return ".0f" if self.number.metric == SUCCESS else _metric(self.number, self.section).form


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict and the findings about its numbers.

    Attributes:
        scale: "full" or "reduced"; None if nothing is measured.
        findings: those that decide first, of each number one: under the published protocol, or under the largest other one.
        decisive: how many of the findings decide.
        missing: the numbers without a run under any protocol.
    """

    claim: Claim
    verdict: Verdict
    scale: str | None
    findings: tuple[Finding, ...]
    decisive: int
    missing: tuple[Number, ...]

    @property
    def seeds(self) -> list[int]:
        """How many seeds the verdict rests on: the fewest and the most."""
        counts = [finding.seeds for finding in self.findings[: self.decisive] if finding.seeds]
        return sorted({min(counts), max(counts)}) if counts else []


def judge(report: Report, results: Path) -> list[Judgement]:
    """A judgement of each claim; `results` is the folder under which bench writes.

    Findings under the published protocol decide wherever there are any. Otherwise the largest protocol measured for a number
    decides, for a reduced scale alone, and not at all about a claim that needs the published protocol. Runs at scale=smoke,
    which show that something runs, decide nothing. A claim is contradicted as soon as one of its numbers is out of its bounds
    with its whole interval, and supported if all numbers of the tables that were measured keep theirs with theirs.
    """
    return [_judgement(claim, report, results) for claim in report.paper.claims]


def _judgement(claim: Claim, report: Report, results: Path) -> Judgement:
    found = {number: list(_findings(number, report, results)) for number in claim.numbers}
    missing = tuple(number for number, own in found.items() if not own)
    if len(missing) == len(found):
        return Judgement(claim, "not measured", None, (), 0, missing)
    full = any(each.full for own in found.values() for each in own)
    counted = [max(own, key=_size) for own in found.values() if any(each.full == full for each in own)]
    others = [each for own in found.values() for each in own if each not in counted]
    begun = {each.number.table for each in counted}
    complete = not any(number.table in begun for number in missing)
    verdicts = {each.verdict for each in counted}
    if claim.full and not full:
        verdict = "undecided"
    elif "contradicted" in verdicts:
        verdict = "contradicted"
    else:
        verdict = "supported" if verdicts == {"supported"} and complete else "undecided"
    return Judgement(claim, verdict, "full" if full else "reduced", (*counted, *others), len(counted), missing)


def _size(finding: Finding) -> tuple[float, ...]:
    """Orders protocols: the published one, then by images seen in training, width of the network, and seeds."""
    if finding.full:
        return (1,)
    protocol = finding.section.protocol
    images = finding.section.sizes.get("train") or protocol.get("dataset.train_images") or 0
    return (0, images * protocol.get("trainer.epochs", 1), protocol.get("model.width") or 0, finding.seeds)


def _findings(number: Number, report: Report, results: Path) -> Iterable[Finding]:
    if number.file:
        if (results / number.file).is_file():
            value = _read(number, pd.read_csv(results / number.file))
            yield _finding(number, None, pd.Series([value]), (value, value), float("nan"))
        return
    for section in report.sections:
        if section.table.name == number.table and {run.scale for run in section.runs} != {"smoke"}:
            values = _values(number, section)
            if len(values):
                bounds = rate_interval(values) if number.metric == SUCCESS else interval(values)
                yield _finding(number, section, values, bounds, _published(number, section))


def _finding(
    number: Number, section: Section | None, values: pd.Series, bounds: tuple[float, float], published: float
) -> Finding:
    low, high = bounds
    least = -float("inf") if number.at_least is None else number.at_least
    most = float("inf") if number.at_most is None else number.at_most
    if section is not None and len(values) < FEWEST:
        verdict = "undecided"
    elif high < least or low > most:
        verdict = "contradicted"
    else:
        verdict = "supported" if least <= low and high <= most else "undecided"
    return Finding(number, section, values.mean(), low, high, len(values) * (section is not None), published, verdict)


def _read(number: Number, frame: pd.DataFrame) -> float:
    def largest(where: dict[str, object]) -> float:
        return frame[(frame[list(where)] == pd.Series(where)).all(axis=1)][number.column].max()

    return largest(number.where) / (largest(number.ratio_to) if number.ratio_to else 1)


def _values(number: Number, section: Section) -> pd.Series:
    """By seed; of two rows, over their common seeds."""
    first, *second = (_by_seed(_entry(section, label), number, section) for label in number.rows)
    for other in second:
        first, other = by_seed(first), by_seed(other)
        first = first - other if number.difference_to else first / other
    return first.dropna()


def _by_seed(entry: Entry, number: Number, section: Section) -> pd.Series:
    return entry.successes if number.metric == SUCCESS else entry.values(_metric(number, section))


def _metric(number: Number, section: Section) -> Metric:
    return METRICS[number.metric] if number.metric else section.table.metric


def _entry(section: Section, label: str) -> Entry:
    return next(entry for entry in section.entries if entry.row.label == label)


def _published(number: Number, section: Section) -> float:
    if not section.published or number.metric not in (None, SUCCESS, section.table.metric.name):
        return float("nan")
    key = "success_rate" if number.metric == SUCCESS else section.table.statistic
    first, *second = (_entry(section, label).row.published.get(key, float("nan")) for label in number.rows)
    for other in second:
        first = first - other if number.difference_to else first / other
    return first
