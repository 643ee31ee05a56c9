"""Metrics of tables: columns of metrics.csv and numbers of evaluation.json."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

VALIDATION = "validation_accuracy"


@dataclass(frozen=True)
class Metric:
    """A column of metrics.csv, or a number of evaluation.json, which `Run` keeps in the row of the last epoch.

    Attributes:
        unit: empty for a plain number.
        best: whether the largest or the smallest value is best; None for a study, in which no value is better.
        form: format of a value.
        timing: whether it is a time. The value of a run is then the mean over its epochs, and it has no training curves and no
            success rates.
        peak_of: the column whose value in the best epoch of a run is used. The best epoch has the highest validation accuracy
            or, without validation images, the best value of the column. None: the column with the name of the metric, after the
            last epoch.
        short: header of its column in a table of another metric.
        measurement: the part of evaluation.json that it is in; None: it is in metrics.csv.
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
        """Whether it has training curves and success rates."""
        return not self.timing and not self.study

    def of(self, rows: pd.DataFrame, over: tuple[float, float] | None = None) -> float:
        """The value of a run with these rows: that of the last row, or the mean over the rows whose first column is in a range.

        NaN if there are no rows, or no such column.
        """
        if self.peak_of and self.name in rows and not rows.empty:  # of a runs.csv without curves.csv
            return rows[self.name].iloc[-1]
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
