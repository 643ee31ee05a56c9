"""A network that starts from trained weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Predicate
from torch import Tensor, nn

from spectral_repro.configuration.identity import file_digest
from spectral_repro.errors import UserError, first_line
from spectral_repro.models.init import FirstImages
from spectral_repro.models.pretrained import translate
from spectral_repro.training.checkpoint import differences, read_checkpoint, renamed

Networks = Literal[
    "alexnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]


def is_file_name(value: str) -> bool:
    """a file such as results/runs/RUN/checkpoints/best.pt"""
    return value != ""


@dataclass(frozen=True)
class FromCheckpoint:
    """The weights of a checkpoint, under ``model``, whose names and shapes are those of the network. Prefixes of
    DistributedDataParallel and torch.compile are removed.

    Attributes:
        checkpoint: a file of a run, or one's own with ``{"model": network.state_dict()}``.
        content: the required `file_digest`; None: any.

    Raises:
        UserError: when called, if the file cannot be read as a checkpoint, or nothing in it fits.
    """

    checkpoint: Annotated[str, Predicate(is_file_name)]
    content: str | None = None

    def __call__(self, model: nn.Module, first_images: FirstImages) -> None:
        path = Path(self.checkpoint).expanduser()
        if self.content is not None and self.content != (found := file_digest(path)):
            raise UserError(
                f"init.checkpoint={path}: not the file that this run began with (init.content={self.content})"
                f"{f', its content is {found}' if found else ', it cannot be read'}"
            )
        try:
            weights = read_checkpoint(path)["model"]
        except UserError as error:
            raise UserError(f"init.checkpoint={error}") from error
        take(model, renamed(model, weights), f"init.checkpoint={path}")


@dataclass(frozen=True)
class Pretrained:
    """Weights that torchvision publishes for one of its networks. Those that `translate` cannot use are left out.

    They are downloaded, checked against their hash and kept by `torch.hub`.

    Raises:
        UserError: when called, if there are no such weights, they cannot be downloaded, or none of them fits.
    """

    network: Networks
    weights: str

    def __call__(self, model: nn.Module, first_images: FirstImages) -> None:
        import torchvision

        published = {each.name: each for each in torchvision.models.get_model_weights(self.network)}
        place = f"init.weights={self.weights}"
        if self.weights not in published:
            raise UserError(f"{place}: those of {self.network} are {', '.join(published)}")
        with torch.device("meta"):
            source = torchvision.models.get_model(self.network)
        try:
            state = published[self.weights].get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
            source.load_state_dict(state, assign=True)
        except Exception as error:  # of the connection, the disk or a damaged file
            url, folder = published[self.weights].url, Path(torch.hub.get_dir()) / "checkpoints"
            raise UserError(f"{place}: {url} cannot be downloaded and is not in {folder} ({first_line(error)})") from error
        try:
            weights = translate(source, model)
        except ValueError as error:
            raise UserError(f"init.network={self.network}: {error}") from error
        take(model, weights, f"init.network={self.network}, {place}")


def take(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Loads the weights whose names and shapes match the network, and prints which are missing. A whitening layer in place of a
    batch norm computes its running statistic from the running variance.

    Raises:
        UserError: if there are none.
    """
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    of_batch_norms = {name.replace("running_mean", "running_var"): shape for name, shape in shapes.items()}
    fitting = {name: value for name, value in weights.items() if (of_batch_norms | shapes).get(name) == value.shape}
    if not fitting:
        raise UserError(f"{origin}: none of its weights fits this network ({differences(model, weights)}); take the same model")
    anew = sorted(model.load_state_dict(fitting, strict=False).missing_keys)
    taken = len(shapes) - len(anew)
    print(f"{origin}: {taken} of {len(shapes)} tensors taken" + (f"; new: {', '.join(anew)}" if anew else ""), flush=True)
