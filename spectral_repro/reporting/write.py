"""A paper's report on disk."""

from collections.abc import Sequence
from pathlib import Path

from spectral_repro.errors import UserError
from spectral_repro.reporting.archive import write_archive
from spectral_repro.reporting.costs import Speeds
from spectral_repro.reporting.figures import image
from spectral_repro.reporting.latex import document, latex
from spectral_repro.reporting.page import SiteContext, render
from spectral_repro.reporting.pictures import Picture, pictures
from spectral_repro.reporting.sections import Report
from spectral_repro.reporting.tables import csv, markdown
from spectral_repro.reporting.verdicts import Judgement


def draw(report: Report) -> dict[str, list[Picture]]:
    """The figures of each section by its name."""
    return {section.name: pictures(section) for section in report.sections}


def write(
    report: Report,
    out: Path,
    judgements: Sequence[Judgement] = (),
    speeds: Speeds | None = None,
    around: SiteContext = SiteContext(),
    drawn: dict[str, list[Picture]] | None = None,
) -> list[str]:
    """Writes tables (md, tex, csv), figures (png, pdf), tables.tex, runs.csv, curves.csv and index.html under `out`.

    Returns:
        The tables and a line about what was written.

    Raises:
        UserError: nothing can be written there.
    """
    drawn = draw(report) if drawn is None else drawn
    runs = list(dict.fromkeys(run for section in report.sections for run in section.runs))
    files = {"index.html": render(report, drawn, judgements, speeds, around).encode()}
    files["tables.tex"] = document(report).encode()
    files |= write_archive(runs) if runs else {}
    for section in report.sections:
        for kind, table in {"md": markdown, "tex": latex, "csv": csv}.items():
            files[f"{section.name}.{kind}"] = table(section).encode()
        for picture in drawn[section.name]:
            files |= {f"{picture.name}.{kind}": image(picture.figure, kind) for kind in ("png", "pdf")}
    write_files(files, out)
    tables = [files[f"{section.name}.md"].decode() for section in report.sections]
    return [*tables, f"Written under {out}: index.html, the tables as .md, .tex and .csv, the figures as .png and .pdf"]


def write_files(files: dict[str, bytes], out: Path) -> None:
    """Files by their names under `out`; what is there already as it should be is left alone.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
    except OSError as error:
        raise UserError(f"out={out}: nothing can be written there ({error.strerror}); name another folder") from error
