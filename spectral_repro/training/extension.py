"""More epochs for a finished run."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spectral_repro.configuration.identity import within
from spectral_repro.errors import UserError
from spectral_repro.layers.replicas import replicas
from spectral_repro.training.build import build_schedule
from spectral_repro.training.run_folder import differing_keys
from spectral_repro.training.state import rate_factor
from spectral_repro.training.step import hybrids
from spectral_repro.training.trainer import Trainer

MAY_DIFFER = ("trainer.epochs", "schedule")


def check_extension(earlier: Path, config: DictConfig, trainer: Trainer) -> None:
    """Checks that the steps of a finished run are the first steps of a run with more epochs.

    This is so if the two differ only in epochs and schedule, and both schedules give the finished steps the same learning
    rates, such as ``schedule=constant`` or milestones at the same epochs.

    Raises:
        UserError: if they are not, for a run that has not finished, and for a folder without a run.
    """
    place = f"trainer.extend={earlier}"
    try:
        summary = json.loads((earlier / "summary.json").read_text("utf-8"))
        stored: Any = OmegaConf.load(earlier / ".hydra" / "config.yaml")
        state, processes, epochs = summary["state"], summary.get("processes", 1), stored.trainer.epochs
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{place}: not the folder of a training") from error
    if state != "finished":
        raise UserError(f"{place}: {state}; only a finished run can be extended")
    if epochs >= config.trainer.epochs:
        raise UserError(f"{place}: has {epochs} epochs; trainer.epochs={config.trainer.epochs} must be more")
    if processes != replicas():
        raise UserError(f"{place}: was trained by {processes} processes; start as many")
    if others := [key for key in differing_keys(stored, config) if not within(key, MAY_DIFFER)]:
        raise UserError(f"{place}: differs in {', '.join(others)}; only epochs and schedule may differ")
    if hybrids(trainer.state.model):
        raise UserError(f"{place}: backward=hybrid switches after a part of the training, so it cannot be extended")
    before, now = build_schedule(stored), trainer.state.schedule
    steps = epochs * len(trainer.train_batches)
    for step in range(steps):
        old, new = rate_factor(before, step, steps), rate_factor(now, step, trainer.state.steps)
        if old != new:
            raise UserError(
                f"{place}: its step {step} had {old:.4g} of the full learning rate, and with these epochs and schedule it has "
                f"{new:.4g}; schedule=constant can be extended, and milestones that stay at their epochs"
            )
