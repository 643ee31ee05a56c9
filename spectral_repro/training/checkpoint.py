"""Checkpoints: the training state, with the architecture and configuration that it belongs to."""

import io
from pathlib import Path
from pickle import UnpicklingError

import torch
from omegaconf import DictConfig, OmegaConf

from spectral_repro.errors import UserError
from spectral_repro.training.files import write_whole
from spectral_repro.training.processes import first
from spectral_repro.training.state import TrainingState


def save_checkpoint(path: Path, state: TrainingState, config: DictConfig) -> None:
    """Writes the state with the resolved config beside it; the weights are under ``model``."""
    if not first():
        return
    buffer = io.BytesIO()
    torch.save(state.state_dict() | {"config": OmegaConf.to_container(config, resolve=True)}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getbuffer())


def load_checkpoint(path: Path, state: TrainingState) -> None:
    """Restores a state.

    Raises:
        UserError: if the file cannot be read as a checkpoint of this network.
    """
    try:
        state.load_state_dict(torch.load(path, map_location=state.device, weights_only=True))
    except (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, UnpicklingError) as error:
        raise UserError(f"{path}: damaged, or not a checkpoint of this run; force=true starts the run anew") from error
