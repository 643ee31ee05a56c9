"""The one trainer and what a run leaves behind."""

from spectral_repro.training.loggers import Logger

__all__ = ["Logger"]
