"""A measurement on disk."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectral_repro.benchmarks.sections import Measurement, Section
from spectral_repro.reporting.figures import image, svg

SOURCES = PackageLoader("spectral_repro.benchmarks")
TEMPLATES = Environment(loader=SOURCES, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def write(measurement: Measurement, measured_on: str, out: Path) -> list[str]:
    """Writes <numbers>.csv, <section>.{md,png,pdf} and index.html; returns the tables as Markdown, and what was written."""
    files = {
        f"{name}.csv": frame.to_csv(index=False, float_format="%.4g").encode() for name, frame in measurement.numbers.items()
    }
    tables = {section.name: markdown(section, measured_on) for section in measurement.sections if section.table is not None}
    files |= {f"{name}.md": text.encode() for name, text in tables.items()}
    for section in measurement.sections:
        if section.figure is not None:
            files |= {f"{section.name}.{kind}": image(section.figure, kind) for kind in ("png", "pdf")}
    files["index.html"] = page(measurement, measured_on).encode()
    for name, content in files.items():
        (out / name).write_bytes(content)
    numbers = ", ".join(f"{name}.csv" for name in measurement.numbers)
    return [*tables.values(), f"Written under {out}: index.html, {numbers}, the tables as .md, the figures as .png and .pdf"]


def markdown(section: Section, measured_on: str) -> str:
    alignment = ["left", *["right"] * (len(section.table.columns) - 1)]
    table = section.table.astype(str).to_markdown(index=False, disable_numparse=True, colalign=alignment)
    return f"{section.title}. {section.caption} {measured_on}\n\n{table}\n"


def page(measurement: Measurement, measured_on: str) -> str:
    """Everything on one page that needs nothing beside it."""
    drawings = {
        section.name: Markup(svg(section.figure, f"{section.title}. {section.caption}"))
        for section in measurement.sections
        if section.figure is not None
    }
    template = TEMPLATES.get_template("page.html.j2")
    return template.render(measurement=measurement, measured_on=measured_on, drawings=drawings)
