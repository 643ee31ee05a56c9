"""A report on disk."""

from pathlib import Path

from spectral_repro.errors import UserError
from spectral_repro.reporting.figures import image
from spectral_repro.reporting.latex import latex
from spectral_repro.reporting.page import render
from spectral_repro.reporting.pictures import pictures
from spectral_repro.reporting.sections import Report
from spectral_repro.reporting.tables import csv, markdown


def write(report: Report, out: Path) -> list[str]:
    """Writes tables (md, tex, csv), figures (png, pdf) and index.html under `out`; returns the tables and a line about it.

    Raises:
        UserError: nothing can be written there.
    """
    drawn = {section.name: pictures(section) for section in report.sections}
    files = {"index.html": render(report, drawn).encode()}
    for section in report.sections:
        for kind, table in {"md": markdown, "tex": latex, "csv": csv}.items():
            files[f"{section.name}.{kind}"] = table(section).encode()
        for picture in drawn[section.name]:
            files |= {f"{picture.name}.{kind}": image(picture.figure, kind) for kind in ("png", "pdf")}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"out={out}: nothing can be written there ({error.strerror}); name another folder") from error
    tables = [files[f"{section.name}.md"].decode() for section in report.sections]
    return [*tables, f"Written under {out}: index.html, the tables as .md, .tex and .csv, the figures as .png and .pdf"]
