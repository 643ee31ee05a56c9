"""What a table measures: a column of metrics.csv or a number of evaluation.json, and how it is read."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Metric:
    """A column of metrics.csv, or a number of evaluation.json, which `Run` keeps beside the last epoch.

    Attributes:
        best: which of several values is the best one.
        form: how a value is written.
        timing: a time, which depends on the machine: a run's value is the mean over its epochs, not the last epoch's, and
            neither training curves nor success rates belong to it.
        measurement: the part of evaluation.json that it is in, so that it has no training curve; None: of metrics.csv.
    """

    name: str
    words: str
    unit: str
    best: Literal["max", "min"]
    form: str = ".2f"
    timing: bool = False
    measurement: str | None = None

    @property
    def label(self) -> str:
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def when(self) -> str:
        return "averaged over the epochs of a run" if self.timing else "after the last epoch"

    def of(self, epochs: pd.DataFrame) -> float:
        """The value of a run with these epochs; NaN without any, or where they lack the column."""
        values = epochs.get(self.name, pd.Series(dtype=float))
        return (values if self.timing else values.tail(1)).mean()


LOSS = Metric("train_loss", "Training loss", "nats", "min", ".4f")
METRICS = {
    metric.name: metric
    for metric in (
        LOSS,
        Metric("train_accuracy", "Training accuracy", "%", "max"),
        Metric("test_loss", "Test loss", "nats", "min", ".4f"),
        Metric("test_accuracy", "Test accuracy", "%", "max"),
        Metric("step_time", "Step time", "ms", "min", ".1f", timing=True),
        Metric("accuracy", "Accuracy", "%", "max", measurement="accuracy"),
        Metric("ece", "Calibration error (ECE)", "", "min", ".4f", measurement="calibration"),
        Metric("nll", "Negative log-likelihood", "nats", "min", ".4f", measurement="calibration"),
        Metric("brier", "Brier score", "", "min", ".4f", measurement="calibration"),
        Metric("corruption_accuracy", "Corruption accuracy", "%", "max", measurement="corruptions"),
        Metric("generated_corruption_accuracy", "Generated corruption accuracy", "%", "max", measurement="corruptions"),
        Metric("robust_accuracy", "Robust accuracy", "%", "max", measurement="autoattack"),
        Metric("certified_accuracy", "Certified accuracy at 36/255", "%", "max", measurement="certificates"),
        Metric("mean_certificate", "Mean certificate", "L2", "max", ".4f", measurement="certificates"),
    )
}
EVALUATED = [metric for metric in METRICS.values() if metric.measurement]
