"""metrics.csv: what a run writes down of every epoch."""

import csv
import io
from itertools import chain
from pathlib import Path

from spectral_repro.training.files import write_whole


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """A row per epoch, with the columns of all of them: a run may go on with more or fewer than it began with."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(chain.from_iterable(rows))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
