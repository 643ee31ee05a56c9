"""Writes the result of a suite."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectral_repro.benchmarks.results import Display, SuiteResult
from spectral_repro.reporting.site import write_files
from spectral_repro.reporting.style import image, svg

SOURCES = PackageLoader("spectral_repro.benchmarks")
TEMPLATES = Environment(loader=SOURCES, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def write(result: SuiteResult, measured_on: str, out: Path) -> list[str]:
    """Writes <numbers>.csv, <display>.{md,png,pdf} and index.html. Returns the tables as Markdown, and a line about the files.

    Raises:
        UserError: if the folder cannot be written to.
    """
    files = {f"{name}.csv": frame.to_csv(index=False, float_format="%.4g").encode() for name, frame in result.numbers.items()}
    tables = {display.name: markdown(display, measured_on) for display in result.displays if display.table is not None}
    files |= {f"{name}.md": text.encode() for name, text in tables.items()}
    for display in result.displays:
        if display.figure is not None:
            files |= {f"{display.name}.{kind}": image(display.figure, kind) for kind in ("png", "pdf")}
    files["index.html"] = page(result, measured_on).encode()
    write_files(files, out)
    numbers = ", ".join(f"{name}.csv" for name in result.numbers)
    return [*tables.values(), f"Written under {out}: index.html, {numbers}, the tables as .md, the figures as .png and .pdf"]


def markdown(display: Display, measured_on: str) -> str:
    assert display.table is not None
    alignment = ["left", *["right"] * (len(display.table.columns) - 1)]
    table = display.table.astype(str).to_markdown(index=False, disable_numparse=True, colalign=alignment)
    return f"{display.title}. {display.caption} {measured_on}\n\n{table}\n"


def page(result: SuiteResult, measured_on: str) -> str:
    """An HTML page with all results, which needs no other file."""
    drawings = {
        display.name: Markup(svg(display.figure, f"{display.title}. {display.caption}"))
        for display in result.displays
        if display.figure is not None
    }
    template = TEMPLATES.get_template("page.html.j2")
    return template.render(result=result, measured_on=measured_on, drawings=drawings)
