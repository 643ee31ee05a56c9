"""What a run writes down while it trains: metrics.csv and TensorBoard events."""

import csv
import io
from pathlib import Path

from spectral_repro.training.files import write_whole


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """metrics.csv, a row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


class TensorBoard:
    """Scalars of a run; a run that goes on replaces the events after its step."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def log(self, scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()
