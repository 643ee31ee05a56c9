"""The HTML page of a paper or a comparison."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectral_repro.reporting.claims import SUCCESS
from spectral_repro.reporting.figures import Picture
from spectral_repro.reporting.intervals import MOST
from spectral_repro.reporting.metrics import METRICS, Metric
from spectral_repro.reporting.papers import TRAIN, Paper, Row, network
from spectral_repro.reporting.protocols import Values, counted
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Report, Section
from spectral_repro.reporting.statistics import best_within_noise, reference, statistics
from spectral_repro.reporting.tables import (
    METHOD,
    UNKNOWN,
    between,
    evaluations,
    formatted,
    grid,
    measurement,
    notes,
    spans,
    text,
)
from spectral_repro.reporting.verdicts import Finding, Judgement

SOURCES = PackageLoader("spectral_repro.reporting")
TEMPLATES = Environment(loader=SOURCES, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
EVALUATE = ("python", "-m", "spectral_repro.evaluate")
SEEDS = "seed=0,1,2"
COSTS = (
    "Estimated time of one run: images times epochs, divided by the measured images/s of runs of the same row or, if there are "
    "none, of the same network. To measure a network without runs, add trainer.epochs=1 dataset.train_images=1280 to the "
    "command."
)
IMAGES = {  # all training images
    "cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257, "digits": 1_437, "imagenet": 1_281_167,
    "cub": 5_994, "cars": 8_144, "dogs": 12_000, "aircraft": 6_667,
}  # fmt: skip
SVHN_EXTRA = 531_131  # additional images with dataset.extra


@dataclass(frozen=True)
class SiteContext:
    """The place of a page in a site.

    Attributes:
        links: to all pages, as pairs of address and name.
        here: name of this page among them.
        runs_at: address of the folder with the pages of runs; empty if there are none.
    """

    links: Sequence[tuple[str, str]] = ()
    here: str = ""
    runs_at: str = ""


@dataclass(frozen=True)
class Cost:
    """The estimated time of a training on a machine.

    Attributes:
        images_per_second: median over runs of the same network on images of the same size, on this machine.
        runs: number of these runs.
        same: whether they are runs of the same row, not just of the same network.
    """

    machine: str
    seconds: float
    images_per_second: float
    runs: int
    same: bool


class Speeds:
    """The images/s of all runs, by machine and network."""

    def __init__(self, runs: Iterable[Run]):
        self._runs = defaultdict(list)
        for run in runs:
            if run.summary.get("images_per_second"):
                self._runs[network(run.identity)].append(run)

    def cost(self, values: Values, compared: Values) -> list[Cost]:
        """The cost of one run on each machine that has a run of the same network.

        Args:
            values: that determine the result of the run.
            compared: the values that distinguish its row from the others; runs with the same values are preferred.
        """
        images = values.get("dataset.train_images") or _all_images(values)
        by_machine = defaultdict(list)
        for run in self._runs[network(values)]:
            by_machine[run.machine].append(run)
        costs = []
        for machine, runs in by_machine.items() if images else ():
            own = [run for run in runs if compared.items() <= run.identity.items()]
            speed = median(run.summary["images_per_second"] for run in own or runs)
            costs.append(Cost(machine, images * values["trainer.epochs"] / speed, speed, len(own or runs), bool(own)))
        return costs


def render(
    report: Report,
    drawn: dict[str, list[Picture]],
    judgements: Sequence[Judgement] = (),
    speeds: Speeds | None = None,
    around: SiteContext = SiteContext(),
) -> str:
    """The page of a report as one HTML file.

    Args:
        report: the sections to show.
        drawn: the figures of each section by its name.
        judgements: the verdicts on the claims.
        speeds: for the estimated costs; None: those of the runs in the report.
        around: the site that the page belongs to, if any.
    """
    speeds = speeds or Speeds(run for section in report.sections for run in section.runs)
    views: dict[str, list[Any]] = {table.name: [] for table in report.paper.tables}
    for section in report.sections:
        views[section.table.name].append(_view(section, drawn[section.name], speeds))
    claims = [claim(judgement, report.paper) for judgement in judgements]
    main = next((section for section in report.sections if drawn[section.name]), None)
    opening: dict[str, Any] = {
        "main": main and main.name,
        "main_table": main and main.table.name,
        "found": _found(main, judgements),
        "parts": _parts(report.paper, main, claimed=bool(claims)),
    }
    whole = {"paper": report.paper, "views": views, "claims": claims, "costs": COSTS} | opening
    return TEMPLATES.get_template("paper.html.j2").render(**whole, **vars(around))


def _parts(paper: Paper, main: Section | None, claimed: bool) -> list[tuple[str, str]]:
    """The anchors and names of the parts of a page, for its navigation bar."""
    parts = {
        f"table-{main.table.name}" if main else "": "Main result",
        "protocol" if paper.protocol else "": "Protocol",
        "claims" if claimed else "": "Claims",
        "errata" if paper.errata else "": "Errata",
        "tables" if len(paper.tables) > 1 else "": "Tables",
    }
    return [(anchor, name) for anchor, name in parts.items() if anchor]


def _found(main: Section | None, judgements: Sequence[Judgement]) -> str:
    """The main result in a sentence: the best row of the main table, and the verdicts."""
    parts = []
    if main and (best := best_within_noise(main)):
        metric = main.table.metric
        means = {entry.row.label: _mean(main, entry) for entry in main.entries if entry.row.label in best}
        label = (max if metric.best == "max" else min)(means, key=means.__getitem__)
        measured = sum(main.values(entry, metric).count() > 0 for entry in main.entries)
        others = f"{len(best) - 1} of the other {measured - 1}" if len(best) > 1 else "none of the others"
        parts.append(
            f"{main.table.title}: {label} has the {'highest' if metric.best == 'max' else 'lowest'} {metric.words.lower()} of "
            f"{measured} methods, {text(means[label], metric.form)}{f' {metric.unit}' if metric.unit else ''}, and {others} "
            f"{'is' if len(best) <= 2 else 'are'} within its noise"
        )
    if judgements:
        parts.append(verdict_counts(judgements))
    return f"{'; '.join(parts)}." if parts else ""


def _mean(section: Section, entry: Entry) -> float:
    return section.values(entry, section.table.metric).mean()


def verdict_counts(judgements: Iterable[Judgement]) -> str:
    """The number of claims by verdict, such as "3 claims: 2 agree, 1 undecided"."""
    verdicts = Counter(judgement.words for judgement in judgements)
    parts = [
        f"{number} {words if number == 1 else words.replace('agrees', 'agree')}" for words, number in verdicts.most_common()
    ]
    return f"{counted(verdicts.total(), 'claim')}: {', '.join(parts)}"


def claim(judgement: Judgement, paper: Paper) -> dict[str, Any]:
    """The verdict on a claim in words, with its numbers and the commands that measure it."""
    seeds = " to ".join(map(str, judgement.seeds))
    words = ["" if seeds or not judgement.findings else "exact"]
    scale = f"{judgement.scale} scale" if seeds and judgement.verdict == "undecided" else ""
    words += [f"{seeds} seed{'s' * (judgement.seeds != [1])}"] if seeds else []
    if judgement.missing and judgement.findings:
        words.append(f"{counted(len(judgement.missing), 'number')} of {len(judgement.claim.numbers)} not measured")
    if judgement.claim.full and judgement.scale != "full":
        words.append("needs the published protocol")
    if judgement.needed:
        words.append(f"{_needed(judgement.needed)} seeds would decide it")
    return {
        "id": judgement.claim.id,
        "claim": judgement.claim.claim,
        "published": judgement.claim.published,
        "verdict": judgement.words,
        "badge": f"{judgement.words} at {scale}" if scale else judgement.words,
        "scale": scale,
        "evidence": ", ".join(filter(None, words)),
        "missing": judgement.missing,
        "commands": [judgement.claim.command] if judgement.claim.command else _commands(judgement, paper),
        "findings": _plain(
            ["Number", "Bounds", "Measured", "95 % interval", "Seeds", "p", "Published", "Verdict", "Seeds needed", "Protocol"],
            [_finding(finding, paper) for finding in judgement.findings],
        ),
    }


def claims(judgements: Sequence[Judgement], paper: Paper) -> str:
    """The verdicts on the claims of a paper in Markdown, each with a table of its numbers."""
    parts = [f"# Claims of {paper.name}"]
    for each in (claim(judgement, paper) for judgement in judgements):
        words = ", ".join(filter(None, (each["scale"], each["evidence"])))
        evidence = f" ({words})" if words else ""
        parts.append(f"**{each['verdict']}**{evidence}: {each['claim']} Published: {each['published'] or 'no figure'}")
        if rows := each["findings"]["rows"]:
            columns = [("", name) for name in each["findings"]["columns"]]
            parts.append(grid(pd.DataFrame([[label, *cells] for label, cells, *_ in rows], columns=columns)))
    return "\n\n".join(parts) + "\n"


def _commands(judgement: Judgement, paper: Paper) -> list[str]:
    """The commands for the rows of the missing numbers, or for all rows if no number is missing."""
    tables = {table.name: table for table in paper.tables}
    commands: dict[str, None] = {}
    for number in judgement.missing or judgement.claim.numbers:
        if number.table is None:  # in a file of a benchmark
            continue
        table = tables[number.table]
        rows = [row for row in table.rows if row.label in number.rows]
        commands |= {shlex.join([*TRAIN, "-m", *row.overrides, SEEDS]): None for row in rows}
        if measured := number.metric_or(table.metric).measurement:
            commands[shlex.join([*EVALUATE, "runs=results/runs", f"metrics=[{measured}]"])] = None
    return list(commands)


def _finding(finding: Finding, paper: Paper) -> list[str]:
    titles: dict[str | None, str] = {table.name: table.title for table in paper.tables}
    number, form = finding.number, finding.form
    what = number.words if number.file else f"{titles[number.table]}: {number.words}"
    measured = "success (%)" if number.metric == SUCCESS else METRICS[number.metric].label if number.metric else ""
    return [
        f"{what}, {measured}" if measured else what,
        number.bounds,
        text(finding.mean, form),
        between(*finding.interval, form) if finding.seeds > 1 else UNKNOWN,
        str(finding.seeds or UNKNOWN),
        f"{finding.p:.2g}" if finding.seeds > 1 else UNKNOWN,
        text(finding.published, form),
        finding.verdict or "does not count",
        _needed(finding.needed) if finding.needed else UNKNOWN,
        finding.section.label if finding.section else str(number.file),
    ]


def _needed(seeds: float) -> str:
    return f"{seeds:,.0f}" if isfinite(seeds) else f"more than {MOST:,}"


def _plain(columns: list[str], rows: list[list[str]]) -> dict[str, Any]:
    return {"spans": [], "columns": columns, "rows": [(row[0], row[1:], False, False) for row in rows]}


def _view(section: Section, drawn: list[Picture], speeds: Speeds) -> dict[str, Any]:
    frame, metric = formatted(section), section.table.metric
    ran = pd.Series([bool(entry.runs) for entry in section.entries])
    series = pd.Series([entry.row.series or "" for entry in section.entries])
    unrun = frame.loc[~ran, [column for column in frame if column == METHOD or column[0] == "published"]]
    return {
        "name": section.name,
        "terms": section.terms,
        "metric": metric.label,
        "measurement": measurement(section),
        "ran": _table(frame[ran], series, best_within_noise(section)),
        "unrun": _table(unrun.loc[:, (unrun != UNKNOWN).any()], series),
        "notes": notes(section),
        "evaluated": _table(evaluations(section), series),
        "figures": [(Markup(picture.svg), picture.panels, picture.caption) for picture in drawn],
        "fills": _fills(section, speeds),
        "unfinished": _unfinished(section),
        "runs": [_run(row, run, metric) for run, row in _rows_of_runs(section).items()],
        **_statistics(section),
    }


def _fills(section: Section, speeds: Speeds) -> list[dict[str, str]]:
    """The command and the estimated time for each row without a run."""
    rows = [entry.row for entry in section.unrun]
    commands = zip(section.commands, rows, strict=True) if section.commands else ()
    return [
        {"command": command, "cost": _cost(speeds.cost(section.protocol | (row.values or {}), row.values or {}), section)}
        for command, row in commands
    ]


def _cost(costs: list[Cost], section: Section) -> str:
    if section.table.metric.study:
        times = [run.summary["wall_time_s"] for run in section.runs if run.summary.get("wall_time_s")]
        return f"{duration(min(times))} to {duration(max(times))}" if times else "not measured"
    texts = []
    for cost in costs:
        whose = "its own" if cost.same else "other"
        texts.append(f"{duration(cost.seconds)} at {cost.images_per_second:,.0f} images/s of {whose} runs, {cost.machine}")
    return "; ".join(texts) or "not measured"


def _unfinished(section: Section) -> list[str]:
    """The commands that continue unfinished runs, and those that evaluate finished runs for the metric of the table."""
    if section.asked is None:
        return []
    commands = [
        entry.row.command(*section.asked, f"seed={run.seed}")
        for entry in section.entries
        for run in entry.in_state("running", "interrupted", "failed")
    ]
    metric = section.table.metric
    for run in section.runs if metric.measurement else ():
        place = next((place for place in run.places if place.is_dir()), None)  # None: it is only in a runs.csv
        if place and run.state == "finished" and metric.name not in run.metrics:
            commands.append(shlex.join([*EVALUATE, f"run={place / run.folder}", f"metrics=[{metric.measurement}]"]))
    return commands


def _statistics(section: Section) -> dict[str, Any]:
    """The statistics as text, and a sentence about the differences and intervals."""
    frame, form, trained = statistics(section), section.table.metric.form, section.table.metric.trained
    if frame.empty or not frame["seeds"].any():
        return {"statistics": _plain([], []), "compared": ""}
    rows = []
    for row in frame.to_dict("records"):
        cells = [text(row[key], form) for key in ("mean", "std", "median", "best")]
        cells.append(between(row["low"], row["high"], form))
        if trained:
            rate = row.get("success_rate", float("nan"))  # NaN if no run has ended
            cells.append(
                UNKNOWN if pd.isna(rate) else f"{rate:.0f} [{between(row['success_low'], row['success_high'], '.0f')}]"
            )
        pairs = row.get("pairs")
        paired = [UNKNOWN, UNKNOWN, "0"] if not pairs or pd.isna(pairs) else [
            text(row["difference"], f"+{form}"),
            between(row["difference_low"], row["difference_high"], f"+{form}"),
            f"{pairs:.0f}",
        ]  # fmt: skip
        rows.append([row["method"], str(row["seeds"]), *cells, *paired])
    columns = ["Method", "Seeds", "Mean", "Std", "Median", "Best", "95 % interval"] + ["Success (%)"] * trained
    columns += ["Difference", "95 % interval", "Pairs"]
    compared = (
        f"Difference: to {reference(section)}, the mean over pairs of runs of the same seed. Intervals: Student's t for means, "
        "Clopper-Pearson for success rates."
    )
    return {"statistics": _plain(columns, rows), "compared": compared}


def _table(frame: pd.DataFrame, series: pd.Series, best: Set[str] = frozenset()) -> dict[str, Any]:
    """Columns and rows of cells, for each row whether it is the first of its series, and whether it is one of the best."""
    own = series[frame.index]
    return {
        "spans": spans(frame.columns),
        "columns": [name for _, name in frame.columns],
        "rows": [
            (cells[0], cells[1:], first, cells[0] in best)
            for cells, first in zip(frame.itertuples(index=False, name=None), own != own.shift(), strict=True)
        ],
    }


def _rows_of_runs(section: Section) -> dict[Run, Row]:
    """The first row that each run belongs to."""
    first = {run: entry.row for entry in reversed(section.entries) for run in entry.runs}
    return {run: first[run] for run in section.runs}


def _run(row: Row, run: Run, metric: Metric) -> dict[str, Any]:
    summary = run.summary
    return {
        "folder": run.folder,
        "method": row.label,
        "seed": run.seed,
        "state": run.state,
        "epochs": run.epochs if "epoch" in run.metrics else UNKNOWN,
        "value": text(metric.of(run.metrics, row.over), metric.form),
        "gradient": text(run.largest_gradient, ".3g"),
        "gap": text(run.smallest_gap, ".2g"),
        "time": UNKNOWN if summary.get("wall_time_s") is None else duration(summary["wall_time_s"]),
        "speed": text(summary.get("images_per_second"), ",.0f"),
        "device": summary.get("device") or UNKNOWN,
        "versions": ", ".join(
            [
                *(f"{name} {version}" for name, version in run.versions.items()),
                *([f"commit {run.commit}"] if run.commit else []),
            ]
        ),
    }


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _all_images(values: Values) -> int | None:
    images = IMAGES.get(values.get("dataset.name", ""))
    return images + SVHN_EXTRA if images and values.get("dataset.extra") else images
