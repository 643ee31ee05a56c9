"""A report as one page that needs nothing beside it."""

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectral_repro.reporting.captions import measurement, notes
from spectral_repro.reporting.figures import svg
from spectral_repro.reporting.metrics import Metric
from spectral_repro.reporting.papers import Row
from spectral_repro.reporting.pictures import Picture
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Report, Section
from spectral_repro.reporting.tables import METHOD, UNKNOWN, evaluations, formatted, spans, text

SOURCES = PackageLoader("spectral_repro.reporting")
TEMPLATES = Environment(loader=SOURCES, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(report: Report, drawn: dict[str, list[Picture]]) -> str:
    """The page; `drawn` holds the figures of each section by its name."""
    views = {table.name: [] for table in report.paper.tables}
    for section in report.sections:
        views[section.table.name].append(_view(section, drawn[section.name]))
    return TEMPLATES.get_template("page.html.j2").render(paper=report.paper, views=views)


def _view(section: Section, drawn: list[Picture]) -> dict[str, object]:
    frame, metric = formatted(section), section.table.metric
    ran = pd.Series([bool(entry.runs) for entry in section.entries])
    series = pd.Series([entry.row.series or "" for entry in section.entries])
    unrun = frame.loc[~ran, [column for column in frame if column == METHOD or column[0] == "published"]]
    return {
        "name": section.name,
        "terms": section.terms,
        "metric": metric.label,
        "measurement": measurement(section),
        "ran": _table(frame[ran], series),
        "unrun": _table(unrun.loc[:, (unrun != UNKNOWN).any()], series),
        "notes": notes(section),
        "evaluated": _table(evaluations(section), series),
        "figures": [(Markup(svg(picture.figure, picture.description)), picture.caption) for picture in drawn],
        "commands": section.commands,
        "runs": [_run(row, run, metric) for run, row in _rows_of_runs(section).items()],
    }


def _table(frame: pd.DataFrame, series: pd.Series) -> dict[str, object]:
    """Columns and rows of cells; a row that begins a series says so."""
    own = series[frame.index]
    return {
        "spans": spans(frame.columns),
        "columns": [name for _, name in frame.columns],
        "rows": [
            (cells[0], cells[1:], first)
            for cells, first in zip(frame.itertuples(index=False, name=None), own != own.shift(), strict=True)
        ],
    }


def _rows_of_runs(section: Section) -> dict[Run, Row]:
    """The first row that each run belongs to."""
    first = {run: entry.row for entry in reversed(section.entries) for run in entry.runs}
    return {run: first[run] for run in section.runs}


def _run(row: Row, run: Run, metric: Metric) -> dict[str, object]:
    summary = run.summary
    return {
        "folder": run.folder,
        "method": row.label,
        "seed": run.seed,
        "state": run.state,
        "epochs": len(run.metrics) if "epoch" in run.metrics else UNKNOWN,
        "value": text(metric.of(run.metrics, row.over), metric.form),
        "gradient": text(run.largest_gradient, ".3g"),
        "gap": text(run.smallest_gap, ".2g"),
        "time": _duration(summary.get("wall_time_s")),
        "speed": text(summary.get("images_per_second"), ",.0f"),
        "device": summary.get("device") or UNKNOWN,
        "versions": ", ".join([*(f"{name} {version}" for name, version in run.versions.items()), *_commit(summary.get("git"))]),
    }


def _commit(git: dict[str, object] | None) -> list[str]:
    return [f"commit {git['commit'][:7]}{' with changes' if git['dirty'] else ''}"] if git else []


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
