"""All papers on one static site: an index, a page for each paper and each run, and a comparison across papers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spectral_repro.configuration.identity import within
from spectral_repro.reporting.archive import write_archive
from spectral_repro.reporting.costs import Speeds
from spectral_repro.reporting.intervals import interval
from spectral_repro.reporting.page import TEMPLATES, Surroundings, claim
from spectral_repro.reporting.papers import Paper
from spectral_repro.reporting.pictures import Picture
from spectral_repro.reporting.protocols import COUNTED, counted
from spectral_repro.reporting.run_page import Place, render_run
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Report, Section, gather
from spectral_repro.reporting.tables import UNKNOWN, text
from spectral_repro.reporting.verdicts import Judgement, judge
from spectral_repro.reporting.write import draw, write, write_files

ALL, ACROSS = "All papers", "Across papers"
SHARED = ("model._target_", "model.width", "dataset.name", *COUNTED, "precision")  # by runs that are compared across papers
TOLD = ("model", "optimizer._target_", "optimizer.lr", "schedule._target_", "init", "penalty", "constraint", "gradient")


@dataclass(frozen=True)
class Chapter:
    """A paper with what is known of it."""

    report: Report
    judgements: Sequence[Judgement]
    drawn: dict[str, list[Picture]]

    @property
    def paper(self) -> Paper:
        return self.report.paper

    @cached_property
    def states(self) -> Counter:
        """How many rows have a result under the published protocol ("full"), under another alone ("reduced"), or none."""
        best = {}
        for section in self.report.sections:
            for entry in section.entries:
                state = ("full" if section.full else "reduced") if entry.measured or entry.in_state("diverged") else "missing"
                known = best.get((section.table.name, entry.row.label), "missing")
                best[section.table.name, entry.row.label] = min(state, known, key=["full", "reduced", "missing"].index)
        return Counter(best.values())


def write_site(papers: Iterable[Paper], runs: list[Run], notices: Sequence[str], out: Path, results: Path) -> list[str]:
    """Writes the site under `out`; `results` is where bench writes. Returns a line about each paper and one about the site.

    Raises:
        UserError: nothing can be written there.
    """
    reports = [gather(paper, runs) for paper in papers]
    chapters = [Chapter(report, judge(report, results), draw(report)) for report in reports]
    speeds = Speeds(runs)
    names = [chapter.paper.name for chapter in chapters]
    lines = []
    for chapter in chapters:
        around = Surroundings(_links("../", names), chapter.paper.name, "../runs/")
        write(chapter.report, out / chapter.paper.name, chapter.judgements, speeds, around, chapter.drawn)
        lines.append(f"{chapter.paper.name}: {_counts(chapter)}; {_verdicts([chapter])}")
    files = {"index.html": _index(chapters, runs, notices).encode(), "compare.html": _compare(chapters).encode()}
    files |= write_archive(runs) if runs else {}
    places = _places(chapters)
    for run in runs:
        files[f"runs/{run.folder}.html"] = render_run(run, places[run], _links("../", names)).encode()
    write_files(files, out)
    return [
        *lines,
        f"Written under {out}: index.html, compare.html, a folder for each paper, a page for each of {len(runs)} runs",
    ]


def _links(to: str, names: Iterable[str]) -> list[tuple[str, str]]:
    return [(f"{to}index.html", ALL), *((f"{to}{name}/index.html", name) for name in names), (f"{to}compare.html", ACROSS)]


def _places(chapters: Iterable[Chapter]) -> dict[Run, list[Place]]:
    """The rows that each run belongs to."""
    places = defaultdict(list)
    for chapter in chapters:
        for section in chapter.report.sections:
            for entry in section.entries:
                for run in entry.runs:
                    target = f"../{chapter.paper.name}/index.html#{section.name}"
                    places[run].append(Place(chapter.paper.name, f"{section.table.title}, {entry.row.label}", target))
    return places


def _index(chapters: Sequence[Chapter], runs: Sequence[Run], notices: Sequence[str]) -> str:
    states = sum((chapter.states for chapter in chapters), Counter())
    rows = f"{counted(len(chapters), 'paper')}, {counted(states.total(), 'row')}: {_state_words(states)}"
    return TEMPLATES.get_template("index.html.j2").render(
        links=_links("", [chapter.paper.name for chapter in chapters]),
        here=ALL,
        totals=f"{rows}. {_verdicts(chapters)}.",
        papers=[_card(chapter) for chapter in chapters],
        claims=[(each.paper.name, claim(judgement, each.paper)) for each in chapters for judgement in each.judgements],
        number=len(runs),
        notices=notices,
    )


def _card(chapter: Chapter) -> dict[str, object]:
    states, paper = chapter.states, chapter.paper
    pictures = [picture for section in chapter.report.sections for picture in chapter.drawn[section.name]]
    return {
        "name": paper.name,
        "title": paper.title,
        "source": paper.source,
        "counts": _counts(chapter),
        "claims": _verdicts([chapter]),
        "full": round(100 * states["full"] / states.total(), 1),
        "reduced": round(100 * states["reduced"] / states.total(), 1),
        "headlines": _headlines(chapter.report.sections),
        "picture": pictures[0] if pictures else None,
    }


def _counts(chapter: Chapter) -> str:
    published = sum(bool(row.published) for table in chapter.paper.tables for row in table.rows)
    return f"{counted(chapter.states.total(), 'row')}, {published} published: {_state_words(chapter.states)}"


def _state_words(states: Counter) -> str:
    return f"{states['full']} reproduced in full, {states['reduced']} at a reduced scale, {states['missing']} missing"


def _verdicts(chapters: Iterable[Chapter]) -> str:
    verdicts = Counter(judgement.verdict for chapter in chapters for judgement in chapter.judgements)
    parts = [f"{number} {verdict}" for verdict, number in verdicts.most_common()]
    return f"{counted(verdicts.total(), 'claim')}: {', '.join(parts)}"


def _headlines(sections: Iterable[Section]) -> list[str]:
    """The two rows of the published protocol that are furthest from what was published, in parts of it."""
    found = []
    for section in sections:
        if section.full and section.published:
            for entry in section.entries:
                published, own = entry.row.published.get(section.table.statistic), entry.values(section.table.metric).dropna()
                if published and len(own):
                    mean, form = own.mean(), section.table.metric.form
                    words = f"{text(mean, form)} here, {text(published, form)} published ({text(mean - published, f'+{form}')})"
                    found.append((abs(mean - published) / abs(published), f"Furthest: {entry.row.label}, {words}"))
    return [line for _, line in sorted(found, reverse=True)[:2]]


def _compare(chapters: Sequence[Chapter]) -> str:
    groups = defaultdict(dict)
    for chapter in chapters:
        for section in chapter.report.sections:
            if section.table.metric.name == "test_accuracy":
                for entry in section.entries:
                    if entry.values(section.table.metric).count():
                        shared = tuple(section.protocol.get(key, entry.row.values.get(key)) for key in SHARED)
                        groups[shared].setdefault(tuple(run.id for run in entry.runs), (chapter.paper.name, section, entry))
    shown = [
        _group(shared, list(rows.values())) for shared, rows in groups.items() if len({name for name, *_ in rows.values()}) > 1
    ]
    names = [chapter.paper.name for chapter in chapters]
    return TEMPLATES.get_template("compare.html.j2").render(links=_links("", names), here=ACROSS, groups=shown)


def _group(shared: tuple[object, ...], rows: list[tuple[str, Section, Entry]]) -> dict[str, object]:
    target, width, dataset, *sizes, precision = shared
    terms = [
        target.rpartition(".")[2],
        dataset,
        *(counted(size, noun) for size, noun in zip(sizes, COUNTED.values(), strict=True) if size),
    ]
    own = [{key: value for key, value in section.protocol.items() if within(key, TOLD)} for _, section, _ in rows]
    differing = [key for key in sorted({key for each in own for key in each}) if len({repr(each.get(key)) for each in own}) > 1]
    lines = []
    for (name, section, entry), values in zip(rows, own, strict=True):
        numbers = entry.values(section.table.metric).dropna()
        low, high = interval(numbers)
        between = f"{low:.2f} to {high:.2f}" if len(numbers) > 1 else UNKNOWN
        others = ", ".join(f"{key.removesuffix('._target_')}={_last(values[key])}" for key in differing if key in values)
        lines.append(
            (
                numbers.mean(),
                [
                    f"{name}, {section.table.name}: {entry.row.label}",
                    text(numbers.mean(), ".2f"),
                    text(numbers.std(), ".2f"),
                    between,
                    str(len(numbers)),
                    others,
                ],
            )
        )
    lines.sort(key=lambda line: -line[0])
    columns = ["Treatment", "Test accuracy (%)", "Std", "95 % interval", "Seeds", "What else differs"]
    table = {"spans": [], "columns": columns, "rows": [(cells[0], cells[1:], False) for _, cells in lines]}
    return {"terms": [*terms, *([f"width {width}"] if width else []), precision], "table": table}


def _last(value: object) -> str:
    return value.rpartition(".")[2] if isinstance(value, str) else str(value)
