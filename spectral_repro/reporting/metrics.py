"""What a table measures: a column of metrics.csv, and how it is read."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Metric:
    """A column of metrics.csv.

    Attributes:
        best: which of several values is the best one.
        form: how a value is written.
        timing: a time, which depends on the machine: a run's value is the mean over its epochs, not the last epoch's, and
            neither training curves nor success rates belong to it.
    """

    name: str
    words: str
    unit: str
    best: Literal["max", "min"]
    form: str = ".2f"
    timing: bool = False

    @property
    def label(self) -> str:
        return f"{self.words} ({self.unit})"

    @property
    def when(self) -> str:
        return "averaged over the epochs of a run" if self.timing else "after the last epoch"

    def of(self, epochs: pd.DataFrame) -> float:
        """The value of a run with these epochs; NaN without any, or where they lack the column."""
        values = epochs.get(self.name, pd.Series(dtype=float))
        return (values if self.timing else values.tail(1)).mean()


LOSS = Metric("train_loss", "Training loss", "nats", "min", ".3f")
METRICS = {
    metric.name: metric
    for metric in (
        LOSS,
        Metric("train_accuracy", "Training accuracy", "%", "max"),
        Metric("test_loss", "Test loss", "nats", "min", ".3f"),
        Metric("test_accuracy", "Test accuracy", "%", "max"),
        Metric("step_time", "Step time", "ms", "min", ".1f", timing=True),
    )
}
