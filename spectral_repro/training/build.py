"""The one place where objects are made from configuration."""

from collections.abc import Callable

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from spectral_repro.data.batches import Batches
from spectral_repro.data.images import ImageData, Split
from spectral_repro.errors import UserError
from spectral_repro.optim.schedules import Schedule


def build_model(config: DictConfig) -> nn.Module:
    """The network with the layer under study in it, its weights drawn from torch's global generator."""
    norm = _named_errors(_instantiate(config, "norm"), "norm")
    return _instantiate(config, "model", norm=norm)


def build_optimizer(config: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    return _named_errors(_instantiate(config, "optimizer"), "optimizer")(model.parameters())


def build_schedule(config: DictConfig) -> Schedule:
    return _instantiate(config, "schedule")


def load_images(config: DictConfig) -> ImageData:
    return _instantiate(config.dataset, "load")


def build_batches(config: DictConfig, split: Split, device: torch.device, train: bool) -> Batches:
    """Batches of a split: shuffled and augmented for training, as they stand for evaluation."""
    dataset = config.dataset
    augmentation = {"crop_padding": dataset.crop_padding, "flip": dataset.flip} if train else {}
    return Batches(
        split,
        batch_size=dataset.batch_size,
        mean=list(dataset.mean),
        std=list(dataset.std),
        seed=config.seed,
        shuffle=train,
        device=device,
        channels_last=config.trainer.channels_last,
        **augmentation,
    )


def _instantiate(config: DictConfig, key: str, **arguments: object) -> object:
    try:
        return instantiate(config[key], **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, TypeError | ValueError):
            raise UserError(f"{key}: {error.__cause__}") from error
        raise


def _named_errors(factory: Callable[..., object], key: str) -> Callable[..., object]:
    """The factory, its complaints about arguments prefixed with the key that they were set under."""

    def make(*arguments: object) -> object:
        try:
            return factory(*arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"{key}.{error}" if isinstance(error, ValueError) else f"{key}: {error}") from error

    return make
