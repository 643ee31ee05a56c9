"""What a table measures: a column of metrics.csv or a number of evaluation.json, and how it is read."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

VALIDATION = "validation_accuracy"


@dataclass(frozen=True)
class Metric:
    """A column of metrics.csv, or a number of evaluation.json, which `Run` keeps beside the last epoch.

    Attributes:
        unit: empty for a number.
        best: which of several values is the best one; None for what a study measures, where none is better.
        form: how a value is written.
        timing: a time, which depends on the machine: a run's value is the mean over its epochs, not the last epoch's, and
            neither training curves nor success rates belong to it.
        peak_of: the column whose value in a run's best epoch is meant: the epoch of the highest validation accuracy, or in a
            run without validation images that of the best value itself. None: the column of this name, after the last epoch.
        short: its column header in a table of another metric.
        measurement: the part of evaluation.json that it is in, so that it has no training curve; None: of metrics.csv.
    """

    name: str
    words: str
    unit: str
    best: Literal["max", "min"] | None
    form: str = ".2f"
    timing: bool = False
    peak_of: str | None = None
    short: str = ""
    measurement: str | None = None

    @property
    def column(self) -> str:
        return self.peak_of or self.name

    @property
    def label(self) -> str:
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def when(self) -> str:
        if self.study:
            return "averaged over the repeats of a run"
        if self.timing:
            return "averaged over the epochs of a run"
        return "in a run's best epoch" if self.peak_of else "after the last epoch"

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
        if self.column not in rows or rows.empty:
            return float("nan")
        if over:
            rows = rows[rows.iloc[:, 0].between(*over)]
        values = rows[self.column]
        if self.peak_of:
            validation = rows.get(VALIDATION)
            return values.agg(self.best) if validation is None or validation.isna().all() else values[validation.idxmax()]
        return values.mean() if self.timing or over else values.iloc[-1]


LOSS = Metric("train_loss", "Training loss", "nats", "min", ".3f")
METRICS = {
    metric.name: metric
    for metric in (
        LOSS,
        Metric("train_accuracy", "Training accuracy", "%", "max"),
        Metric("validation_loss", "Validation loss", "nats", "min", ".3f"),
        Metric("validation_accuracy", "Validation accuracy", "%", "max"),
        Metric("test_loss", "Test loss", "nats", "min", ".3f"),
        Metric("test_accuracy", "Test accuracy", "%", "max"),
        Metric("ema_test_accuracy", "Test accuracy of averaged weights", "%", "max", short="averaged\nweights"),
        Metric("test_top5_accuracy", "Top-5 test accuracy", "%", "max", short="top-5"),
        Metric("best_test_accuracy", "Test accuracy", "%", "max", peak_of="test_accuracy", short="best\nepoch"),
        Metric(
            "best_top5_accuracy", "Top-5 test accuracy", "%", "max", peak_of="test_top5_accuracy", short="top-5,\nbest epoch"
        ),
        Metric("step_time", "Step time", "ms", "min", ".1f", timing=True),
        Metric("output_gap", "Singular value gap", "", "min", ".3f"),
        Metric("initial_output_gap", "Singular value gap", "", None, ".3f"),
        Metric("abs_cosine_similarity", "Absolute cosine similarity", "", None, ".3f"),
        Metric("orthogonality_gap", "Orthogonality gap", "", None, ".3f"),
        Metric("log_orthogonality_gap", "Orthogonality gap", "ln", None, ".3f"),
        Metric("log_gram_distance", "Gram matrix distance", "ln", None, ".3f"),
        Metric("slope", "Slope of log distance against log width", "", None, ".3f"),
        Metric("accuracy", "Accuracy", "%", "max", measurement="accuracy", short="accuracy"),
        Metric("ece", "Calibration error (ECE)", "", "min", ".4f", measurement="calibration", short="ECE"),
        Metric("nll", "Negative log-likelihood", "nats", "min", ".4f", measurement="calibration", short="NLL"),
        Metric("brier", "Brier score", "", "min", ".4f", measurement="calibration", short="Brier"),
        Metric("corruption_accuracy", "Corruption accuracy", "%", "max", measurement="corruptions", short="corrupted"),
        Metric(
            "generated_corruption_accuracy",
            "Generated corruption accuracy",
            "%",
            "max",
            measurement="corruptions",
            short="generated\ncorruptions",
        ),
        Metric("robust_accuracy", "Robust accuracy", "%", "max", measurement="autoattack", short="under\nattack"),
        Metric("certified_accuracy", "Certified accuracy at 36/255", "%", "max", measurement="certificates", short="certified"),
        Metric("mean_certificate", "Mean certificate", "L2", "max", ".4f", measurement="certificates", short="certificate"),
    )
}
EVALUATED = [metric for metric in METRICS.values() if metric.measurement]
