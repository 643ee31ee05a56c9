import pandas as pd
import pytest

from spectral_repro.reporting.metrics import METRICS

EPOCHS = pd.DataFrame({"train_loss": [2.0, 1.0], "test_accuracy": [90.0, 80.0], "step_time": [30.0, 20.0]})


@pytest.mark.parametrize(("name", "value"), [("train_loss", 1.0), ("test_accuracy", 80.0), ("step_time", 25.0)])
def test_a_result_is_that_of_the_last_epoch_and_a_time_the_mean(name, value):
    assert METRICS[name].of(EPOCHS) == value


@pytest.mark.parametrize("name", METRICS)
def test_what_is_not_recorded_is_unknown(name):
    assert pd.isna(METRICS[name].of(EPOCHS[[]])) and pd.isna(METRICS[name].of(EPOCHS[:0]))


def test_labels_and_directions():
    assert METRICS["test_accuracy"].label == "Test accuracy (%)" and METRICS["step_time"].label == "Step time (ms)"
    assert METRICS["brier"].label == "Brier score"
    assert {name: metric.best for name, metric in METRICS.items()} == {
        "train_loss": "min",
        "train_accuracy": "max",
        "test_loss": "min",
        "test_accuracy": "max",
        "step_time": "min",
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
