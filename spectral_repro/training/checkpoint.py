"""Checkpoints: the training state with its configuration, and weights from other sources."""

import io
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from spectral_repro.errors import UserError, first_line
from spectral_repro.training.files import write_whole
from spectral_repro.training.processes import is_main_process
from spectral_repro.training.state import TrainingState

REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
SHOWN = 4  # names in a message


def save_checkpoint(
    path: Path, state: TrainingState, config: DictConfig, class_names: Sequence[str] = (), keep: Path | None = None
) -> None:
    """Writes the state, the resolved config and the names of the classes; the weights are under ``model``. Every record of the
    file has a CRC-32. An existing checkpoint is renamed to ``keep``, if given.
    """
    if not is_main_process():
        return
    content = state.state_dict() | {"config": OmegaConf.to_container(config, resolve=True), "class_names": list(class_names)}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getbuffer(), keep)


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint file, with weights under ``model``. Only tensors and plain values are read: another type
    could run code and raises an error.

    Raises:
        UserError: in one line that says what is wrong: no such file, a folder, a pipe or a device, damaged (`torch.load` does
            not compare the checksums), a type that is refused, or no weights under ``model``.
    """
    if path.is_fifo() or path.is_char_device() or path.is_block_device():
        raise UserError(f"{path}: a pipe or a device; name a file, such as checkpoints/last.pt of a run")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as records:
                if damaged := records.testzip():
                    raise UserError(f"{path}: damaged, {damaged} differs from its checksum")
        content = torch.load(path, map_location=device, weights_only=True)
    except (UserError, torch.OutOfMemoryError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder; name a file, such as checkpoints/last.pt of a run") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error
    except Exception as error:  # a file that is no checkpoint may raise anything
        refused = REFUSED.search(str(error)) if isinstance(error, UnpicklingError) else None
        raise UserError(
            f"{path}: holds the type {refused[1]}, which could be code and is refused; save tensors and plain values alone, as "
            "in {'model': network.state_dict()}"
            if refused
            else f"{path}: damaged, or not written by torch.save"
        ) from error
    if not isinstance(content, dict) or "model" not in content:
        found = f"its keys are {shortly(list(content))}" if isinstance(content, dict) else f"it is a {type(content).__name__}"
        raise UserError(f"{path}: has no key model, {found}; save {{'model': network.state_dict()}}")
    for key in {"model", "ema"} & content.keys():
        _check_weights(path, key, content[key])
    return content


def _check_weights(path: Path, key: str, weights: object) -> None:
    if not isinstance(weights, dict):
        raise UserError(f"{path}: holds a {type(weights).__name__} under {key}, not the state_dict of a network")
    for name, value in weights.items():
        kind = type(value).__name__ if not isinstance(value, Tensor) else _unusual(value)
        if not isinstance(name, str) or kind:
            found = f"a {kind} as {name}" if kind else f"the {type(name).__name__} {name} as a name"
            raise UserError(f"{path}: holds {found} under {key}; they must be plain tensors by their names, as in a state_dict")


def _unusual(value: Tensor) -> str | None:
    """The kind of an unusual tensor; None for a plain tensor of real numbers."""
    if value.is_meta:
        return "meta tensor, without values,"
    if value.layout != torch.strided or value.is_quantized:
        return "sparse or quantised tensor"
    return "complex tensor" if value.is_complex() else None


def load_checkpoint(paths: list[Path], state: TrainingState) -> None:
    """Restores a state from the first of these files that can be read; names the others on stderr.

    Raises:
        UserError: if none can be read as a checkpoint of this network.
    """
    for path in paths:
        try:
            state.load_state_dict(read_checkpoint(path, state.device))
            return
        except UserError as error:
            fault = str(error)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            fault = f"{path}: not a checkpoint of this run ({type(error).__name__}: {first_line(error)})"
        if path != paths[-1]:
            print(f"{fault}; trying the previous one", file=sys.stderr, flush=True)
    raise UserError(f"{fault}; force=true starts the run again")


def renamed(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of the network, without the prefixes of DataParallel, DistributedDataParallel, AveragedModel
    (``module.``) and torch.compile (``_orig_mod.``).
    """
    own = {plain: name for name, plain in _plain_names(model.state_dict()).items()}
    return {own.get(plain, plain): weights[name] for name, plain in _plain_names(weights).items()}


def _plain_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Each name without the prefixes of wrappers; the counter of an AveragedModel is left out."""
    plain = {name: name.replace("_orig_mod.", "") for name in weights if name != "n_averaged"}
    while plain and all(name.startswith("module.") for name in plain.values()):
        plain = {name: short.removeprefix("module.") for name, short in plain.items()}
    return plain


def differences(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Which tensors are missing, unknown or of another shape, as text; empty if the weights fit."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    parts = {"of another shape": shapes, "missing": missing, "unknown": unknown}
    return "; ".join(f"{words}: {shortly(names)}" for words, names in parts.items() if names)


def shortly(names: Sequence[object]) -> str:
    """The first of them, and the number of the others."""
    shown = ", ".join(map(str, names[:SHOWN])) or "none"
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
