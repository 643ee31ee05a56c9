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
        peak_of: the column whose best epoch is a run's value; None: the column of this name, after the last epoch.
        short: what stands over it beside another metric.
    """

    name: str
    words: str
    unit: str
    best: Literal["max", "min"]
    form: str = ".2f"
    timing: bool = False
    peak_of: str | None = None
    short: str = ""

    @property
    def column(self) -> str:
        return self.peak_of or self.name

    @property
    def label(self) -> str:
        return f"{self.words} ({self.unit})"

    @property
    def when(self) -> str:
        if self.timing:
            return "averaged over the epochs of a run"
        return "in a run's best epoch" if self.peak_of else "after the last epoch"

    def of(self, epochs: pd.DataFrame) -> float:
        """The value of a run with these epochs; NaN without any, or where they lack the column."""
        values = epochs.get(self.column, pd.Series(dtype=float))
        if self.peak_of:
            return values.agg(self.best)
        return (values if self.timing else values.tail(1)).mean()


LOSS = Metric("train_loss", "Training loss", "nats", "min", ".4f")
METRICS = {
    metric.name: metric
    for metric in (
        LOSS,
        Metric("train_accuracy", "Training accuracy", "%", "max"),
        Metric("test_loss", "Test loss", "nats", "min", ".4f"),
        Metric("test_accuracy", "Test accuracy", "%", "max"),
        Metric("test_top5_accuracy", "Top-5 test accuracy", "%", "max", short="top-5"),
        Metric("best_test_accuracy", "Test accuracy", "%", "max", peak_of="test_accuracy", short="best\nepoch"),
        Metric(
            "best_top5_accuracy", "Top-5 test accuracy", "%", "max", peak_of="test_top5_accuracy", short="top-5,\nbest epoch"
        ),
        Metric("step_time", "Step time", "ms", "min", ".1f", timing=True),
    )
}
