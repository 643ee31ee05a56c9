"""Constraints that change the weights between steps, and penalties added to the loss."""

from spectral_repro.constraints.clip import Clip
from spectral_repro.constraints.constraint import Constraint, OrthogonalPenalty
from spectral_repro.constraints.divide import DivideByExactLargest, DivideByLargest, DivideEachByLargest
from spectral_repro.constraints.operators import Operator

__all__ = [
    "Clip",
    "Constraint",
    "DivideByExactLargest",
    "DivideByLargest",
    "DivideEachByLargest",
    "Operator",
    "OrthogonalPenalty",
]
