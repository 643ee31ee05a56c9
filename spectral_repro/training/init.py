"""A network that starts from the weights of another run."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spectral_repro.errors import UserError
from spectral_repro.models.init import FirstImages


@dataclass(frozen=True)
class FromCheckpoint:
    """Weights of a run's checkpoint, as far as names and shapes agree.

    Raises:
        UserError: when called, if the file cannot be read as a checkpoint, or nothing in it fits.
    """

    checkpoint: str

    def __call__(self, model: nn.Module, first_images: FirstImages) -> None:
        path = Path(self.checkpoint).expanduser()
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
            own = model.state_dict()
            fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
        except Exception as error:  # what is no checkpoint may raise anything
            raise UserError(
                f"init.checkpoint={path}: cannot be read as a checkpoint of a run, with weights under model"
            ) from error
        if not fitting:
            raise UserError(
                f"init.checkpoint={path}: none of its {len(weights)} weights fits this network; take the same model"
            )
        model.load_state_dict(fitting, strict=False)
        anew = sorted(own.keys() - fitting.keys())
        print(f"{path}: {len(fitting)} of {len(own)} tensors taken" + (f"; new: {', '.join(anew)}" if anew else ""), flush=True)
