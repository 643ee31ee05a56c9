"""Evaluation of trained networks: accuracy, calibration, robustness, certificates."""

from spectral_repro.evaluation.accuracy import Accuracy
from spectral_repro.evaluation.attack import AutoAttack
from spectral_repro.evaluation.calibration import Calibration
from spectral_repro.evaluation.certificates import Certificates
from spectral_repro.evaluation.corruptions import Corruptions
from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.trained import TrainedNetwork, load_trained

__all__ = [
    "Accuracy",
    "AutoAttack",
    "Calibration",
    "Certificates",
    "Corruptions",
    "Measurement",
    "TrainedNetwork",
    "load_trained",
]
