"""What is done to the weights between steps, and penalties added to the loss."""

from spectral_repro.constraints.clip import Clip
from spectral_repro.constraints.constraint import Constraint
from spectral_repro.constraints.divide import DivideByExactLargest, DivideByLargest, DivideEachByLargest
from spectral_repro.constraints.penalty import OrthogonalPenalty

__all__ = ["Clip", "Constraint", "DivideByExactLargest", "DivideByLargest", "DivideEachByLargest", "OrthogonalPenalty"]
