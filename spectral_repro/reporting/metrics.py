"""What a table measures: a column of metrics.csv, and how it is read."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Metric:
    """A column of metrics.csv.

    Attributes:
        unit: empty for a number.
        best: which of several values is the best one; None for what a study measures, where none is better.
        form: how a value is written.
        timing: a time, which depends on the machine: a run's value is the mean over its epochs, not the last epoch's.
    """

    name: str
    words: str
    unit: str
    best: Literal["max", "min"] | None
    form: str = ".2f"
    timing: bool = False

    @property
    def label(self) -> str:
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def when(self) -> str:
        if self.study:
            return "averaged over the repeats of a run"
        return "averaged over the epochs of a run" if self.timing else "after the last epoch"

    @property
    def study(self) -> bool:
        return self.best is None

    @property
    def trained(self) -> bool:
        """Do training curves and success rates belong to it?"""
        return not self.timing and not self.study

    def of(self, rows: pd.DataFrame, over: tuple[float, float] | None = None) -> float:
        """The value of a run with these rows: their last one's, or the mean over those whose first column lies in a range.

        NaN without any, or where they lack the column.
        """
        if over:
            rows = rows[rows.iloc[:, 0].between(*over)]
        values = rows.get(self.name, pd.Series(dtype=float))
        return (values if self.timing or over else values.tail(1)).mean()


LOSS = Metric("train_loss", "Training loss", "nats", "min", ".3f")
METRICS = {
    metric.name: metric
    for metric in (
        LOSS,
        Metric("train_accuracy", "Training accuracy", "%", "max"),
        Metric("test_loss", "Test loss", "nats", "min", ".3f"),
        Metric("test_accuracy", "Test accuracy", "%", "max"),
        Metric("step_time", "Step time", "ms", "min", ".1f", timing=True),
        Metric("abs_cosine_similarity", "Absolute cosine similarity", "", None, ".3f"),
        Metric("orthogonality_gap", "Orthogonality gap", "", None, ".3f"),
        Metric("log_orthogonality_gap", "Orthogonality gap", "ln", None, ".3f"),
        Metric("log_gram_distance", "Distance from mean Gram matrix", "ln", None, ".3f"),
        Metric("slope", "Slope of log distance against log width", "", None, ".3f"),
    )
}
