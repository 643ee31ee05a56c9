"""Checkpoints: the training state, with the architecture and configuration that it belongs to."""

import io
import sys
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from omegaconf import DictConfig, OmegaConf

from spectral_repro.errors import UserError
from spectral_repro.training.files import write_whole
from spectral_repro.training.processes import is_main_process
from spectral_repro.training.state import TrainingState

UNREADABLE = (
    *(OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, NotImplementedError),
    *(UnpicklingError, zipfile.BadZipFile),
)


def save_checkpoint(path: Path, state: TrainingState, config: DictConfig, keep: Path | None = None) -> None:
    """Writes the state with the resolved config beside it; the weights are under ``model``. Every record of the file carries
    its CRC-32. The checkpoint that was there stays under the name ``keep``, if one is given.
    """
    if not is_main_process():
        return
    buffer = io.BytesIO()
    torch.save(state.state_dict() | {"config": OmegaConf.to_container(config, resolve=True)}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getbuffer(), keep)


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, object]:
    """What a checkpoint file holds, tensors and plain values alone: a pickle with code in it is refused, not run.

    Raises:
        UNREADABLE: for a file that is missing, damaged (`torch.load` does not look at the checksums), or no checkpoint.
    """
    with zipfile.ZipFile(path) as records:
        if damaged := records.testzip():
            raise ValueError(f"{damaged} differs from its checksum")
    return torch.load(path, map_location=device, weights_only=True)


def load_checkpoint(paths: list[Path], state: TrainingState) -> None:
    """Restores a state from the first of these files that is whole; says on stderr which of them are not.

    Raises:
        UserError: if none can be read as a checkpoint of this network.
    """
    for path in paths:
        try:
            state.load_state_dict(read_checkpoint(path, state.device))
            return
        except UNREADABLE:
            damage = f"{path}: damaged, or not a checkpoint of this run"
            print(f"{damage}; the one before it is tried" if path != paths[-1] else damage, file=sys.stderr, flush=True)
    raise UserError(f"{damage}; force=true starts the run anew")
