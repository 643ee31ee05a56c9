"""The page of a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from spectral_repro.reporting.captions import divergence
from spectral_repro.reporting.charts import Chart, chart
from spectral_repro.reporting.page import TEMPLATES, duration
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.tables import UNKNOWN

CURVES = {
    "Loss": ("train_loss", "validation_loss", "test_loss"),
    "Accuracy (%)": ("train_accuracy", "validation_accuracy", "test_accuracy"),
    "Learning rate": ("learning_rate",),
    "Largest gradient norm": ("largest_gradient",),
    "Smallest relative gap between eigenvalues": ("smallest_gap",),
    "Images/s": ("images_per_second",),
}
LAST_EPOCHS = 12


@dataclass(frozen=True)
class Place:
    """A row that the run belongs to, and the way there."""

    paper: str
    label: str
    target: str


def render_run(run: Run, places: Sequence[Place], links: Sequence[tuple[str, str]]) -> str:
    """Its curves, the spectra of its layers, where and when it ran, its configuration, its last epochs."""
    return TEMPLATES.get_template("run.html.j2").render(
        links=links,
        here="",
        run=run,
        failure=divergence(run) if run.state == "diverged" else "",
        rows=[(place.paper, place.label, place.target) for place in places],
        charts=_charts(run),
        facts=[("Environment", _environment(run)), ("Configuration", _configuration(run))],
        last=_last(run.metrics),
    )


def _charts(run: Run) -> list[Chart]:
    if run.metrics.empty or not run.whole:
        return []
    place, frame = run.metrics.columns[0], run.metrics
    if place == "epoch":
        drawn = {title: [column for column in columns if column in frame] for title, columns in CURVES.items()}
    else:
        drawn = {column.replace("_", " "): [column] for column in frame.columns[1:] if not column.endswith("_std")}
    charts = [
        chart(title, {column.replace("_", " "): (frame[place], frame[column]) for column in columns}, place.capitalize())
        for title, columns in drawn.items()
    ]
    if not run.spectra.empty:
        by_layer = {layer: (rows["epoch"], rows["exact"]) for layer, rows in run.spectra.groupby("layer", sort=False)}
        charts.append(chart("Largest singular values of its layers", by_layer))
    return [each for each in charts if each]


def _environment(run: Run) -> list[tuple[str, str]]:
    summary = run.summary
    machine = summary.get("machine") or {}
    wall_time, speed = summary.get("wall_time_s"), summary.get("images_per_second")
    pairs = {
        "Scale": run.scale,
        "Seed": run.seed,
        "Started": summary.get("started"),
        "Wall time": None if wall_time is None else duration(wall_time),
        "Images/s": None if speed is None else f"{speed:,.0f}",
        "Device": summary.get("device"),
        "Threads": summary.get("threads"),
        "Memory (GiB)": machine.get("memory_gib"),
        "Platform": machine.get("platform"),
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        "Code": run.commit and f"commit {run.commit}",
    }
    return [(key, str(value)) for key, value in pairs.items() if value not in (None, "")]


def _configuration(run: Run) -> list[tuple[str, str]]:
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in run.identity.items()}
    return sorted(values.items())


def _last(metrics: pd.DataFrame) -> dict[str, list]:
    rows = [
        [f"{value:.5g}" if value == value else UNKNOWN for value in row] for row in metrics.tail(LAST_EPOCHS).to_numpy(float)
    ]
    return {"columns": [column.replace("_", " ") for column in metrics.columns], "rows": rows}
