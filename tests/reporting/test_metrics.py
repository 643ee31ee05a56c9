import pandas as pd
import pytest

from spectral_repro.reporting.metrics import METRICS

EPOCHS = pd.DataFrame({"train_loss": [2.0, 1.0], "test_accuracy": [90.0, 80.0], "step_time": [30.0, 20.0]})


@pytest.mark.parametrize(
    ("name", "value"), [("train_loss", 1.0), ("test_accuracy", 80.0), ("best_test_accuracy", 90.0), ("step_time", 25.0)]
)
def test_values_of_last_epoch_best_epoch_and_times(name, value):
    assert METRICS[name].of(EPOCHS) == value


def test_the_best_epoch_is_chosen_by_the_validation_images_where_there_are_any():
    epochs = pd.DataFrame({"test_accuracy": [90.0, 80.0, 85.0], "validation_accuracy": [70.0, float("nan"), 75.0]})
    assert METRICS["best_test_accuracy"].of(epochs) == 85.0
    assert METRICS["best_test_accuracy"].of(epochs.assign(validation_accuracy=float("nan"))) == 90.0


def test_a_range_is_that_of_the_first_column():
    layers = pd.DataFrame({"layer": [1, 2, 3, 4], "orthogonality_gap": [8.0, 4.0, 2.0, 1.0]})
    gap = METRICS["orthogonality_gap"]
    assert gap.study and gap.of(layers) == 1.0 and gap.of(layers, (2, 3)) == 3.0 and gap.of(layers, (1, 1)) == 8.0
    assert pd.isna(gap.of(layers, (7, 9)))


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_column_gives_nan(name):
    assert pd.isna(METRICS[name].of(EPOCHS[[]])) and pd.isna(METRICS[name].of(EPOCHS[:0]))


def test_labels_and_directions():
    assert METRICS["test_accuracy"].label == "Test accuracy (%)" and METRICS["step_time"].label == "Step time (ms)"
    assert METRICS["brier"].label == "Brier score"
    assert METRICS["slope"].label == "Slope of log distance against log width"
    assert {name: metric.best for name, metric in METRICS.items() if not metric.study} == {
        "train_loss": "min",
        "train_accuracy": "max",
        "validation_loss": "min",
        "validation_accuracy": "max",
        "test_loss": "min",
        "test_accuracy": "max",
        "ema_test_accuracy": "max",
        "test_top5_accuracy": "max",
        "best_test_accuracy": "max",
        "best_top5_accuracy": "max",
        "step_time": "min",
        "output_gap": "min",
        "accuracy": "max",
        "ece": "min",
        "nll": "min",
        "brier": "min",
        "corruption_accuracy": "max",
        "generated_corruption_accuracy": "max",
        "robust_accuracy": "max",
        "certified_accuracy": "max",
        "mean_certificate": "max",
    }
