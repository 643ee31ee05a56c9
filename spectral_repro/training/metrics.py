"""metrics.csv: what a run writes down of every epoch."""

import csv
import io
from pathlib import Path

from spectral_repro.training.files import write_whole


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """A row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
