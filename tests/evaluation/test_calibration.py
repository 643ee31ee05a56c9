import numpy as np
import pytest
import torch

from spectral_repro.evaluation.accuracy import accuracy
from spectral_repro.evaluation.calibration import (
    Calibration,
    bin_confidence,
    brier_score,
    confidence_and_hits,
    expected_calibration_error,
)
from tests.golden_numbers import EVERY_SEED, golden_numbers


@EVERY_SEED
def test_as_published_code_computes_it(seed):
    golden = golden_numbers("senderovich2022_metrics", seed)
    logits, labels = golden["logits"], golden["labels"]
    reliability = bin_confidence(*confidence_and_hits(logits.double().softmax(1), labels), 15)
    assert expected_calibration_error(*reliability) == pytest.approx(golden["ece_15_bins"].item(), abs=1e-5)
    assert accuracy(logits, labels) == pytest.approx(100 * golden["accuracy"].item(), abs=1e-5)


def test_bins_are_closed_on_the_right():
    confidence = torch.tensor([0.2, 0.2 + 1e-9, 0.4, 1.0, 0.95], dtype=torch.float64)
    images, mean, share = bin_confidence(confidence, torch.tensor([1.0, 0, 1, 1, 0]).double(), 5)
    assert images.tolist() == [1, 2, 0, 0, 2]
    assert mean.tolist() == pytest.approx([0.2, 0.3, 0, 0, 0.975]) and share.tolist() == [1, 0.5, 0, 0, 0.5]
    assert expected_calibration_error(images, mean, share) == pytest.approx((0.8 + 2 * 0.2 + 2 * 0.475) / 5)


def test_scores_of_a_run(digits_run, restored):
    trained = restored(digits_run)
    logits, labels = (part.numpy() for part in trained.predictions)
    found = Calibration(bins=10)(trained)
    odds = np.exp(logits.astype(float))
    chance = odds / odds.sum(1, keepdims=True)
    truth = np.eye(10)[labels]
    assert found["nll"] == pytest.approx(-np.log((chance * truth).sum(1)).mean())
    assert found["brier"] == pytest.approx(((chance - truth) ** 2).sum(1).mean())
    top, right = chance.max(1), chance.argmax(1) == labels
    gaps = [abs(right[own].sum() - top[own].sum()) for low in range(10) if (own := np.ceil(top * 10) == low + 1).any()]
    assert found["ece"] == pytest.approx(sum(gaps) / len(labels)) and found["images"] == len(labels) == 50
    assert sum(found["bins"]["images"]) == 50 and len(found["bins"]["accuracy"]) == 10


def test_brier_score_at_its_ends():
    labels = torch.tensor([0, 1])
    sure = torch.eye(2, dtype=torch.float64)
    assert brier_score(sure, labels) == 0 and brier_score(sure.flip(0), labels) == 2
