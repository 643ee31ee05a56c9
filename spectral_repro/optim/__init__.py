"""Optimisers and schedules."""

from spectral_repro.optim.adamg import AdamG
from spectral_repro.optim.grassmann import Grassmann
from spectral_repro.optim.groups import adamg, muon, sgdg, sphere_groups
from spectral_repro.optim.muon import Muon
from spectral_repro.optim.schedules import Schedule
from spectral_repro.optim.sgdg import SGDG

__all__ = ["SGDG", "AdamG", "Grassmann", "Muon", "Schedule", "adamg", "muon", "sgdg", "sphere_groups"]
