"""Verdicts on the claims of a paper, from the runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from spectral_repro.errors import UserError, first_line
from spectral_repro.reporting.claims import SUCCESS, Claim, Number
from spectral_repro.reporting.intervals import FEWEST, LEVEL, holm, interval, p_value, rate_interval, rate_p_value, seeds_needed
from spectral_repro.reporting.sections import Entry, Report, Section

Verdict = Literal["agrees", "disagrees", "undecided", "not measured"]


@dataclass(frozen=True, eq=False)
class Finding:
    """A number of a claim, measured under one protocol.

    Attributes:
        number: of the claim.
        section: of the runs; None for a number from a file of a benchmark.
        values: one per seed; for a file, the number.
        p: p value of the test against the nearest bound, before the correction; for a file 0, or 1 if the number is not finite.
        published: the published value; NaN if it is unknown.
        verdict: None if the protocol is not used for the verdict on the claim.
        needed: number of seeds that would decide it, at the measured mean and spread; None if it is decided, or unknown.
    """

    number: Number
    section: Section | None
    values: pd.Series
    p: float
    published: float
    verdict: Verdict | None = None
    needed: float | None = None

    @property
    def mean(self) -> float:
        return self.values.mean()

    @property
    def bounds(self) -> tuple[float, float]:
        number = self.number
        return (
            -float("inf") if number.at_least is None else number.at_least,
            float("inf") if number.at_most is None else number.at_most,
        )

    @property
    def within(self) -> bool:
        least, most = self.bounds
        return bool(least <= self.mean <= most)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean; for a number from a file, the number itself."""
        if self.section is None:
            return self.mean, self.mean
        return rate_interval(self.values) if self.number.metric == SUCCESS else interval(self.values)

    @property
    def seeds(self) -> int:
        """The number of seeds, or of pairs of runs of the same seed; 0 for a number from a file."""
        return 0 if self.section is None else len(self.values)

    @property
    def form(self) -> str:
        if self.section is None or self.number.ratio_to:
            return ".3g"
        return ".0f" if self.number.metric == SUCCESS else self.number.metric_or(self.section.table.metric).form


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim, and the findings for its numbers.

    Attributes:
        claim: that is judged.
        verdict: on the claim.
        scale: "full" or "reduced"; None if nothing is measured.
        findings: first those that the verdict is based on, one for each number.
        counted: number of findings that the verdict is based on.
        missing: the numbers that were not measured under the protocol of the verdict.
        needed: number of seeds that would decide the claim, at the measured means and spreads, infinite above a thousand; None
            if it is decided, or if more seeds alone cannot decide it.
    """

    claim: Claim
    verdict: Verdict
    scale: str | None
    findings: tuple[Finding, ...]
    counted: int
    missing: tuple[Number, ...]
    needed: float | None = None

    @property
    def seeds(self) -> list[int]:
        """The smallest and the largest number of seeds of the findings that the verdict is based on."""
        counts = [finding.seeds for finding in self.findings[: self.counted] if finding.seeds]
        return sorted({min(counts), max(counts)}) if counts else []

    @property
    def words(self) -> str:
        """The verdict, with "at reduced scale" if nothing was measured at full scale."""
        decided = self.verdict in ("agrees", "disagrees")
        return f"{self.verdict} at reduced scale" if decided and self.scale == "reduced" else self.verdict


def judge(report: Report, results: Path) -> list[Judgement]:
    """Judges each claim.

    The verdict is based on one protocol for each table: the published one if it has runs, or else the largest one that was
    measured. If any number of the claim was measured under the published protocol, other protocols are not used. A claim may
    require the published protocol. Runs at scale=smoke are never used.

    A number is decided if it has at least three seeds and the p value of its test against the nearest bound, with Holm's
    correction for all numbers of the verdict, is at most 5 %. The claim disagrees if one of its numbers is decided to be
    outside its bounds. It agrees if all numbers of the measured tables are decided to be within their bounds.

    Args:
        report: with the runs of the paper.
        results: the folder with the results of benchmarks.
    """
    return [_judgement(claim, report, results) for claim in report.paper.claims]


def _judgement(claim: Claim, report: Report, results: Path) -> Judgement:
    found = [finding for number in claim.numbers for finding in _findings(number, report, results)]
    full = any(_is_full(finding) for finding in found)
    chosen = _largest([finding for finding in found if _is_full(finding) or not full])
    counts = [chosen.get(finding.number.table) is finding.section for finding in found]
    counted = _decided([finding for finding, own in zip(found, counts, strict=True) if own])
    others = [finding for finding, own in zip(found, counts, strict=True) if not own]
    missing = tuple(number for number in claim.numbers if number not in [finding.number for finding in counted])
    if not counted:
        return Judgement(claim, "not measured", None, (), 0, missing)
    measured = {finding.number.table for finding in counted}
    complete = not any(number.table in measured for number in missing)
    verdicts = {finding.verdict for finding in counted}
    verdict: Verdict
    needed = None
    if claim.full and not full:
        verdict = "undecided"
    elif "disagrees" in verdicts:
        verdict = "disagrees"
    elif verdicts == {"agrees"} and complete:
        verdict = "agrees"
    else:
        verdict, needed = "undecided", _needed([each for each in counted if each.verdict == "undecided"], complete)
    scale = "full" if full and not report.paper.reduced else "reduced"
    return Judgement(claim, verdict, scale, (*counted, *others), len(counted), missing, needed)


def _is_full(finding: Finding) -> bool:
    return finding.section is None or finding.section.full


def _largest(findings: list[Finding]) -> dict[str | None, Section | None]:
    """The section of each table for the verdict: with the most training images times epochs, then the widest network, then the
    most results.
    """

    def size(section: Section) -> tuple[float, ...]:
        protocol = section.protocol
        images = section.sizes.get("train") or protocol.get("dataset.train_images") or 0
        return images * protocol.get("trainer.epochs", 1), protocol.get("model.width") or 0, len(section.results)

    sections: dict[str | None, Section | None] = {finding.number.table: None for finding in findings}
    for section in (finding.section for finding in findings if finding.section):
        known = sections[section.table.name]
        sections[section.table.name] = max(known or section, section, key=size)
    return sections


def _decided(findings: list[Finding]) -> list[Finding]:
    """The findings with their verdicts, corrected for their number."""
    corrected = holm(np.array([finding.p for finding in findings]))
    verdicts: list[Verdict] = [
        ("agrees" if finding.within else "disagrees") if p <= LEVEL else "undecided"
        for finding, p in zip(findings, corrected, strict=True)
    ]
    level = LEVEL / max(verdicts.count("undecided"), 1)  # Holm's level for the smallest p value of the undecided
    return [
        replace(
            finding,
            verdict=verdict,
            needed=seeds_needed(_test(finding.number), finding.values, *finding.bounds, level)
            if verdict == "undecided" and finding.seeds and np.isfinite(finding.interval).all()
            else None,
        )
        for finding, verdict in zip(findings, verdicts, strict=True)
    ]


def _needed(undecided: list[Finding], complete: bool) -> float | None:
    """The number of seeds to decide one number outside its bounds, or else all numbers within theirs."""
    outside = [finding.needed for finding in undecided if finding.needed and not finding.within]
    if outside:
        return min(outside)
    known = [finding.needed for finding in undecided if finding.needed]
    return max(known) if complete and len(known) == len(undecided) else None


def _findings(number: Number, report: Report, results: Path) -> Iterable[Finding]:
    if number.file:
        if (path := results / number.file).is_file():
            try:
                value = _read(number, pd.read_csv(path))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: has no value of the claim's number {number.words} ({first_line(error)})") from error
            finding = Finding(number, None, pd.Series([value]), 0.0, float("nan"))
            yield finding if np.isfinite(finding.mean) else replace(finding, p=1.0)
        return
    for section in report.sections:
        if section.table.name == number.table and {run.scale for run in section.runs} != {"smoke"}:
            values = _values(number, section)
            if len(values):
                finding = Finding(number, section, values, 1.0, _published(number, section))
                p = float(_test(number)(values, *finding.bounds)) if len(values) >= FEWEST else 1.0
                yield replace(finding, p=p)


def _test(number: Number) -> Callable[..., np.ndarray]:
    return rate_p_value if number.metric == SUCCESS else p_value


def _read(number: Number, frame: pd.DataFrame) -> float:
    def largest(where: Any) -> float:
        return frame[(frame[list(where)] == pd.Series(where)).all(axis=1)][number.column].max()

    return largest(number.where) / (largest(number.ratio_to) if number.ratio_to else 1)


def _values(number: Number, section: Section) -> pd.Series:
    """The values by seed; for two rows, over their common seeds."""
    first, *second = (_by_seed(_entry(section, label), number, section) for label in number.rows)
    for other in second:
        first = first - other if number.difference_to else first / other
    return first.dropna()


def _by_seed(entry: Entry, number: Number, section: Section) -> pd.Series:
    return entry.successes if number.metric == SUCCESS else section.values(entry, number.metric_or(section.table.metric))


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
