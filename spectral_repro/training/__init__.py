"""The trainer, run folders, checkpoints and loggers."""

from spectral_repro.configuration.settings import TrainerSettings
from spectral_repro.training.loaders import EpochBatches
from spectral_repro.training.loggers import Logger
from spectral_repro.training.recording import Recorder
from spectral_repro.training.trainer import Trainer

__all__ = ["EpochBatches", "Logger", "Recorder", "Trainer", "TrainerSettings"]
