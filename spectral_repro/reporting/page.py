"""A report as one page that needs nothing beside it."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from spectral_repro.reporting.captions import measurement, notes
from spectral_repro.reporting.figures import svg
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Report, Section
from spectral_repro.reporting.tables import formatted, spans

SOURCES = PackageLoader("spectral_repro.reporting")
TEMPLATES = Environment(loader=SOURCES, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(report: Report, drawings: dict[str, Figure | None]) -> str:
    """The page; `drawings` holds the figure of each section by its name."""
    views = {table.name: [] for table in report.paper.tables}
    for section in report.sections:
        views[section.table.name].append(_view(section, drawings[section.name]))
    return TEMPLATES.get_template("page.html.j2").render(paper=report.paper, views=views)


def _view(section: Section, drawing: Figure | None) -> dict[str, object]:
    frame = formatted(section)
    description = f"Training loss and {section.paper.metric} against the epoch, {section.label}"
    return {
        "name": section.name,
        "terms": section.terms,
        "label": section.label,
        "measurement": measurement(section),
        "spans": spans(frame.columns),
        "columns": [name for _, name in frame.columns],
        "rows": [
            (entry.runs, cells[0], cells[1:])
            for entry, cells in zip(section.entries, frame.itertuples(index=False, name=None), strict=True)
        ],
        "notes": notes(section),
        "figure": Markup(svg(drawing, description)) if drawing else None,
        "commands": section.commands,
        "runs": [_run(entry.row.label, run, section.paper.metric) for entry in section.entries for run in entry.runs],
    }


def _run(method: str, run: Run, metric: str) -> dict[str, object]:
    summary = run.summary
    speed = summary.get("images_per_second")
    return {
        "folder": run.folder,
        "method": method,
        "seed": run.seed,
        "state": run.state,
        "epochs": len(run.metrics),
        "final": f"{run.final(metric):.2f}" if len(run.metrics) else "–",
        "time": _duration(summary.get("wall_time_s")),
        "speed": "–" if speed is None else f"{speed:,.0f}",
        "device": summary.get("device") or "–",
        "versions": ", ".join([*(f"{name} {version}" for name, version in run.versions.items()), *_commit(summary.get("git"))]),
    }


def _commit(git: dict[str, object] | None) -> list[str]:
    return [f"commit {git['commit'][:7]}{' with changes' if git['dirty'] else ''}"] if git else []


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
