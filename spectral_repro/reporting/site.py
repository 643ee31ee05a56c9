"""Writes reports, and the site: an index, a page for each paper and each run, and comparisons of other runs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from spectral_repro.errors import UserError
from spectral_repro.reporting.comparison import compare_treatments
from spectral_repro.reporting.figures import NotDrawn, Picture, pictures
from spectral_repro.reporting.latex import document, latex
from spectral_repro.reporting.load import check_archive, write_archive
from spectral_repro.reporting.page import TEMPLATES, SiteContext, Speeds, claim, claims, render, verdict_counts
from spectral_repro.reporting.papers import Paper
from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.run_page import Place, render_run
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Report, Section, gather
from spectral_repro.reporting.tables import csv, markdown, markdown_page, text
from spectral_repro.reporting.verdicts import Judgement, judge
from spectral_repro.workers import Mapper

ALL, COMPARISONS = "All papers", "Comparisons"
FOLDER = "comparisons"


def draw(reports: Sequence[Report], mapper: Mapper = map) -> Iterator[tuple[dict[str, list[Picture]], list[NotDrawn]]]:
    """For each report the figures of its sections by name, and notices about figures that could not be drawn.

    Args:
        reports: to draw.
        mapper: used like the built-in map for several sections; it may use other processes, which draw while this one goes on.
    """
    filled = [section for report in reports for section in report.sections if section.runs]
    drawn = iter((mapper if len(filled) > 1 else map)(pictures, filled))
    return (_by_section(report, drawn) for report in reports)


def _by_section(
    report: Report, drawn: Iterator[tuple[list[Picture], list[NotDrawn]]]
) -> tuple[dict[str, list[Picture]], list[NotDrawn]]:
    found = {section.name: next(drawn) if section.runs else ([], []) for section in report.sections}
    return {name: shown for name, (shown, _) in found.items()}, [notice for _, lines in found.values() for notice in lines]


def write(
    report: Report,
    out: Path,
    judgements: Sequence[Judgement] = (),
    speeds: Speeds | None = None,
    around: SiteContext = SiteContext(),
    drawn: dict[str, list[Picture]] | None = None,
    mapper: Mapper = map,
) -> list[str]:
    """Writes tables (md, tex, csv), figures (png, pdf), tables.md, tables.tex, claims.md, runs.csv, curves.csv and index.html.

    Args:
        report: to write.
        out: the folder for the files; it is made if necessary.
        judgements, speeds, around: as for `render`.
        drawn: the figures of each section by its name; None: they are drawn now.
        mapper: as for `draw`.

    Returns:
        The tables, a line about the files, and a `NotDrawn` for each figure that could not be drawn.

    Raises:
        UserError: if the folder cannot be written to.
    """
    drawing = draw([report], mapper) if drawn is None else iter([(drawn, [])])
    files = {"tables.md": markdown_page(report).encode(), "tables.tex": document(report).encode()}
    files |= {"claims.md": claims(judgements, report.paper).encode()} if judgements else {}
    files |= write_archive(runs) if (runs := report.runs) else {}
    for section in report.sections:
        for kind, table in {"md": markdown, "tex": latex, "csv": csv}.items():
            files[f"{section.name}.{kind}"] = table(section).encode()
    drawn, notices = next(drawing)
    for picture in chain(*drawn.values()):
        files |= {f"{picture.name}.{kind}": content for kind, content in picture.files.items()}
    files["index.html"] = render(report, drawn, judgements, speeds, around).encode()
    write_files(files, out)
    tables = [files[f"{section.name}.md"].decode() for section in report.sections]
    line = f"Written under {out}: index.html, tables.md, each table as .md, .tex and .csv, each figure as .png and .pdf"
    return [*tables, line, *notices]


def write_files(files: dict[str, bytes], out: Path) -> None:
    """Writes files, given by name and content, to a folder. A file that already has its content is not written again.

    Raises:
        UserError: if the folder cannot be written to.
    """
    try:
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                partial = path.with_name(f"{path.name}.partial")  # if this is killed, the old file is still there
                partial.write_bytes(content)
                partial.replace(path)
    except OSError as error:
        raise UserError(f"out={out}: nothing can be written there ({error.strerror}); name another folder") from error


@dataclass(frozen=True)
class Chapter:
    """A paper with its results, verdicts and figures."""

    report: Report
    judgements: Sequence[Judgement]
    drawn: dict[str, list[Picture]]

    @property
    def paper(self) -> Paper:
        return self.report.paper

    @cached_property
    def states(self) -> Counter:
        """Numbers of rows with a result under the full protocol ("full"), only under another ("reduced"), or none."""
        best: dict[tuple[str, str], str] = {}
        for section in self.report.sections:
            for entry in section.entries:
                state = ("full" if section.full else "reduced") if entry.measured or entry.in_state("diverged") else "missing"
                known = best.get((section.table.name, entry.row.label), "missing")
                best[section.table.name, entry.row.label] = min(state, known, key=["full", "reduced", "missing"].index)
        return Counter(best.values())


def write_site(
    papers: Iterable[Paper], runs: list[Run], notices: Sequence[str], out: Path, results: Path, mapper: Mapper = map
) -> list[str]:
    """Writes the site.

    Args:
        papers: that get a page.
        runs: all runs, of papers or not.
        notices: about runs that were left out, for the index.
        out: the folder for the site.
        results: the folder with the results of benchmarks.
        mapper: as for `draw`.

    Returns:
        A line about each paper, one about the site, and a `NotDrawn` for each figure that could not be drawn.

    Raises:
        UserError: if the folder cannot be written to, or runs in it would be lost (`check_archive`).
    """
    reports = [gather(paper, runs) for paper in papers]
    comparisons = _comparisons(reports, runs)
    check_archive(out, runs, runs)
    for report in reports:
        check_archive(out / report.paper.name, report.runs, runs)
    check_archive(out / FOLDER, comparisons.runs, runs)
    drawing = draw([*reports, comparisons], mapper)
    judgements = [judge(report, results) for report in reports]
    (*drawn, compared), undrawn = zip(*drawing, strict=True)
    chapters = [Chapter(*parts) for parts in zip(reports, judgements, drawn, strict=True)]
    speeds = Speeds(runs)
    names = [chapter.paper.name for chapter in chapters]
    links = _links("../", names, comparisons)
    lines = []
    for chapter in chapters:
        around = SiteContext(links, chapter.paper.name, "../runs/")
        write(chapter.report, out / chapter.paper.name, chapter.judgements, speeds, around, chapter.drawn)
        lines.append(f"{chapter.paper.name}: {_counts(chapter)}; {_verdicts([chapter])}")
    if comparisons.sections:
        write(comparisons, out / FOLDER, speeds=speeds, around=SiteContext(links, COMPARISONS, "../runs/"), drawn=compared)
        lines.append(f"{FOLDER}: {counted(len(comparisons.sections), 'table')} of runs that are not all rows of one paper")
    files = {"index.html": _index(chapters, comparisons, runs, notices).encode()}
    files |= write_archive(runs) if runs else {}
    places = _places({chapter.paper.name: chapter.report for chapter in chapters} | {FOLDER: comparisons})
    for run in runs:
        files[f"runs/{run.folder}.html"] = render_run(run, places[run.folder], links).encode()
    write_files(files, out)
    return [
        *lines,
        f"Written under {out}: index.html, a folder for each paper, a page for each of {len(runs)} runs",
        *chain(*undrawn),
    ]


def _comparisons(reports: Iterable[Report], runs: Iterable[Run]) -> Report:
    """Comparisons of runs that differ in their treatment, except those whose runs all belong to one paper."""
    papers = defaultdict(set)
    for report in reports:
        for section in report.sections:
            for run in section.runs:
                papers[run.folder].add(report.paper.name)
    found = compare_treatments(runs)
    return found.only(lambda section: not _of_one_paper(section, papers))


def _of_one_paper(section: Section, papers: Mapping[str, set[str]]) -> bool:
    return bool(set.intersection(*(papers.get(run.folder, set()) for run in section.runs)))


def _links(to: str, names: Iterable[str], comparisons: Report) -> list[tuple[str, str]]:
    papers = [(f"{to}{name}/index.html", name) for name in names]
    return [(f"{to}index.html", ALL), *papers, *([(f"{to}{FOLDER}/index.html", COMPARISONS)] if comparisons.sections else [])]


def _places(reports: Mapping[str, Report]) -> dict[str, list[Place]]:
    """The rows that each run belongs to, by its folder, with their addresses in the folders of the reports."""
    places = defaultdict(list)
    for folder, report in reports.items():
        for section in report.sections:
            for entry in section.entries:
                for run in entry.runs:
                    target = f"../{folder}/index.html#{section.name}"
                    places[run.folder].append(Place(folder, f"{section.table.title}, {entry.row.label}", target))
    return places


def _index(chapters: Sequence[Chapter], comparisons: Report, runs: Sequence[Run], notices: Sequence[str]) -> str:
    states = sum((chapter.states for chapter in chapters), Counter())
    rows = f"{counted(len(chapters), 'paper')}, {counted(states.total(), 'row')}: {_state_words(states)}"
    return TEMPLATES.get_template("index.html.j2").render(
        links=_links("", [chapter.paper.name for chapter in chapters], comparisons),
        comparisons=[(f"{FOLDER}/index.html#{each.name}", each.table.title, each.label) for each in comparisons.sections],
        here=ALL,
        totals=f"{rows}. {_verdicts(chapters)}.",
        papers=[_card(chapter) for chapter in chapters],
        claims=[(each.paper.name, claim(judgement, each.paper)) for each in chapters for judgement in each.judgements],
        number=len(runs),
        notices=notices,
    )


def _card(chapter: Chapter) -> dict[str, Any]:
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
    return verdict_counts(judgement for chapter in chapters for judgement in chapter.judgements)


def _headlines(sections: Iterable[Section]) -> list[str]:
    """A sentence for each of the two rows with the largest relative difference to the published value, at full protocol."""
    found = []
    for section in sections:
        if section.full and section.published:
            for entry in section.entries:
                published, own = (
                    entry.row.published.get(section.table.statistic),
                    section.values(entry, section.table.metric).dropna(),
                )
                if published and len(own):
                    mean, form = own.mean(), section.table.metric.form
                    words = f"{text(mean, form)} here, {text(published, form)} published ({text(mean - published, f'+{form}')})"
                    found.append((abs(mean - published) / abs(published), f"Furthest: {entry.row.label}, {words}"))
    return [line for _, line in sorted(found, reverse=True)[:2]]
