"""Optimisers and schedules."""

from spectral_repro.optim.adamg import AdamG
from spectral_repro.optim.groups import adamg, sgdg, sphere_groups
from spectral_repro.optim.sgdg import SGDG

__all__ = ["SGDG", "AdamG", "adamg", "sgdg", "sphere_groups"]
