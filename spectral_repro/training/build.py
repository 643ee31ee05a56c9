"""Builds all objects of a run from its configuration."""

import copy
import re
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, TypeVar

import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from spectral_repro.configuration.settings import SETTINGS, TrainerSettings
from spectral_repro.configuration.targets import instantiate, locate
from spectral_repro.data.batches import Batches
from spectral_repro.data.images import ImageData, Split, check_split, hold_out
from spectral_repro.errors import UserError, first_line
from spectral_repro.layers.replicas import rank, replicas
from spectral_repro.optim.groups import groups_by_kind
from spectral_repro.optim.schedules import Schedule
from spectral_repro.training.frozen import freeze, train_mode
from spectral_repro.training.loggers import Loggers
from spectral_repro.training.processes import is_main_process
from spectral_repro.training.recording import RunRecorder
from spectral_repro.training.run_folder import RunFolder
from spectral_repro.training.step import BatchTransform
from spectral_repro.training.trainer import Trainer
from spectral_repro.training.weights import WeightControl

Made = TypeVar("Made")


def build_model(config: DictConfig) -> nn.Module:
    """The network with the layer under study; its weights are drawn from torch's global generator."""
    layers = {key: _named_errors(_instantiate(config, key), key) for key in ("norm", "pooling") if key in config}
    for key in layers.keys() - signature(locate(config.model._target_, "model._target_")).parameters.keys():
        raise UserError(f"{key}: {config.model._target_.rpartition('.')[2]} takes no argument {key}; set {key}=null")
    model: nn.Module = _instantiate(config, "model", **layers)
    if not config.get("conv"):
        return model
    convert: Callable[..., nn.Module] = partial(_instantiate(config, "conv"), keep_weights=False)  # they are random anyway
    return _named_errors(convert, "conv")(model)


def place(config: DictConfig, model: nn.Module, device: torch.device) -> nn.Module:
    """The network on the device, in the memory format of the training."""
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    return model.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]


def compile_network(config: DictConfig, model: nn.Module) -> None:
    """Lets torch compile the forward and backward pass of a network if trainer.compile is true or a mode of `torch.compile`."""
    if chosen := config.trainer.compile:
        # a graph for each batch size, whatever sizes came before
        model.compile(dynamic=False, mode=None if chosen is True else chosen)


def check_images_fit(config: DictConfig, model: nn.Module, device: torch.device) -> None:
    """
    Raises:
        UserError: if the network does not take images of this size and number of channels, or has too few outputs.
    """
    dataset = config.dataset
    images = torch.zeros(1, dataset.channels, dataset.image_size, dataset.image_size, device=device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            logits = model.eval()(images)
    except (torch.OutOfMemoryError, torch.linalg.LinAlgError):
        return  # the training itself reports it better
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"dataset.image_size={dataset.image_size}, dataset.channels={dataset.channels}: the network does not take such "
            f"images ({first_line(error)})"
        ) from error
    finally:
        model.train()
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < dataset.num_classes:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"dataset.num_classes={dataset.num_classes}: the logits of one image are {found}, not (1, {dataset.num_classes})"
        )


def check_smallest_batch(config: DictConfig, model: nn.Module, images: ImageData, device: torch.device) -> None:
    """If the last batch, or a part of it, is one image, tries the network in training mode: some normalisations need more.

    Raises:
        UserError: if the network cannot take a batch of one image.
    """
    dataset, count, parts = config.dataset, len(images.train.labels), config.trainer.accumulate
    if replicas() > 1 or _smallest_batch(config, count) // parts > 1:
        return
    image = torch.zeros(1, dataset.channels, dataset.image_size, dataset.image_size, device=device)
    trial = copy.deepcopy(model)  # because a step changes buffers
    train_mode(trial)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            trial(image)
    except ValueError as error:
        divided = f" with trainer.accumulate={parts}" if parts > 1 else ""
        raise UserError(
            f"dataset.batch_size={dataset.batch_size}{divided} makes a batch of one of the {count} training images, too few "
            f"for this network ({first_line(error)}): take another, set dataset.train_images, or dataset.drop_last=true"
        ) from error
    except (torch.OutOfMemoryError, torch.linalg.LinAlgError):
        pass  # the training itself reports it better


def _smallest_batch(config: DictConfig, count: int) -> int:
    """Images in the smallest training batch of an epoch."""
    size, drop_last = config.dataset.batch_size, config.dataset.get("drop_last", False)
    return size if drop_last else count % size or min(count, size)


def initialise(config: DictConfig, model: nn.Module, split: Split, device: torch.device) -> None:
    """Gives the network the weights of config.init, which may depend on the first training images.

    Raises:
        UserError: for weights that cannot be read, and images that are too few for it.
    """

    def first_images(number: int) -> Tensor:
        return build_batches(config, split, device, train=True).first(number)

    _named_errors(_instantiate(config, "init"), "init")(model, first_images)


def build_optimizer(config: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of the network's parameters. If it is made by a function and not by its class, the function also gets the
    network, to group the parameters.

    Raises:
        UserError: for values that it refuses, and for torch's fused SGD with momentum in float16: where the scaler skips the
            first step, it continues from momenta that were never set.
    """
    factory = _instantiate(config, "optimizer")
    options = config.optimizer
    if factory.func is torch.optim.SGD and options.get("fused") and options.get("momentum") and config.precision == "float16":
        raise UserError("optimizer.fused=true: torch's SGD needs another precision than float16, or optimizer.momentum=0")
    parameters = trained_parameters(config, model) if "finetune" in config else _trained(model)
    if "param_groups" in config:
        weight_decay = config.optimizer.get("weight_decay", 0.0)
        parameters = groups_by_kind(parameters, model, config.optimizer.lr, weight_decay, **config.param_groups)
    made_of = (parameters,) if isinstance(factory.func, type) else (parameters, model)
    return _named_errors(factory, "optimizer")(*made_of)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def trained_parameters(config: DictConfig, model: nn.Module) -> list[dict[str, Any]]:
    """The parameter groups of config.finetune, without the frozen parameters.

    Raises:
        UserError: if the network has no classifier or lacks a frozen part, or if nothing is left to train.
    """
    finetune = config.finetune
    if not hasattr(model, "classifier"):
        raise UserError("finetune: the network has no part named classifier")
    freeze(model, finetune.frozen)
    classifier = [parameter for parameter in model.get_submodule("classifier").parameters() if parameter.requires_grad]
    ids = {id(parameter) for parameter in classifier}
    features = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in ids]
    groups = [{"params": features}, {"params": classifier, "lr": config.optimizer.lr * finetune.classifier_factor}]
    if not any(group["params"] for group in groups):
        raise UserError("finetune.frozen: nothing is left to train")
    return [group for group in groups if group["params"]]


def build_weight_control(config: DictConfig, model: nn.Module) -> WeightControl:
    """The penalty, constraint and measured spectra of the configuration, for a model on its device that is not compiled."""
    shape = (config.dataset.channels, config.dataset.image_size, config.dataset.image_size)
    penalty = _instantiate(config, "penalty") if "penalty" in config else None

    def of_the_model(key: str, *more: object) -> Any:
        return _named_errors(_instantiate(config, key), key)(model, shape, *more) if key in config else None

    return WeightControl(model, penalty, of_the_model("constraint", penalty is not None), of_the_model("spectra"))


def build_schedule(config: DictConfig) -> Schedule:
    return _instantiate(config, "schedule")


def load_images(config: DictConfig) -> ImageData:
    """The data set, with a validation split if the configuration asks for one.

    Raises:
        UserError: if it differs from what the configuration says, or makes no batch.
    """
    dataset = config.dataset
    images = _instantiate(config, "dataset.load")
    _check_images(images)
    _, channels, *size = images.train.images.shape
    classes = 1 + max(int(split.labels.max()) for split in (images.train, images.test))
    if channels != dataset.channels or size != [dataset.image_size] * 2:
        found = f"{channels} channels and {' x '.join(map(str, size))} pixels"
        raise UserError(
            f"dataset.channels={dataset.channels}, dataset.image_size={dataset.image_size}: the images have {found}"
        )
    if classes > dataset.num_classes:
        raise UserError(f"dataset.num_classes={dataset.num_classes}: the labels name {classes} classes")
    images = hold_out(images, dataset.get("validation_images"), dataset.get("validation_fraction"))
    count = len(images.train.labels)
    if dataset.get("drop_last", False) and count < dataset.batch_size:
        raise UserError(
            f"dataset.drop_last=true: the {count} training images make no batch of dataset.batch_size={dataset.batch_size}"
        )
    return images


def _check_images(images: object) -> None:
    """
    Raises:
        UserError: if these are not images and labels as `ImageData` describes them.
    """
    if not isinstance(images, ImageData):
        raise UserError(f"dataset.load: must return an ImageData, not {type(images).__name__}")
    for name, split in (("train", images.train), ("test", images.test), ("validation", images.validation)):
        if split is not None:
            _named_errors(check_split, f"dataset.load: {name}")(split)
            if (smallest := int(split.labels.min())) < 0:
                raise UserError(
                    f"dataset.load: {name}: the labels must be the numbers of classes from 0 on, but one is {smallest}"
                )


def build_batches(
    config: DictConfig, split: Split, device: torch.device, train: bool, share: tuple[int, int] = (0, 1)
) -> Batches:
    """Batches of a split: shuffled and augmented for training, plain or in several views for evaluation."""
    dataset = config.dataset
    crop = {"crop_padding": dataset.get("crop_padding", 0), "crop_fill": dataset.get("crop_fill", "black")}
    augmentation = crop | {"flip": dataset.flip, "drop_last": dataset.get("drop_last", False)}
    options = augmentation if train else {"views": dataset.get("views", "plain")}
    return _named_errors(Batches, "dataset")(
        split,
        batch_size=dataset.batch_size,
        mean=list(dataset.mean),
        std=list(dataset.std),
        seed=config.seed,
        shuffle=train,
        device=device,
        channels_last=config.trainer.channels_last,
        share=share,
        **options,
    )


def build_settings(config: DictConfig) -> TrainerSettings:
    trainer, loss = config.trainer, config.get("loss", {})
    return TrainerSettings(
        seed=config.seed,
        precision=config.precision,
        label_smoothing=loss.get("label_smoothing", 0.0),
        reduction=loss.get("reduction", "mean"),
        max_norm=config.gradient_clipping.max_norm if "gradient_clipping" in config else None,
        output_gap_batches=(config.output_gap.batches or "all") if "output_gap" in config else None,
        **{name: trainer[name] for name in SETTINGS if name in trainer},
    )


def build_batch_transform(config: DictConfig) -> BatchTransform | None:
    """Mixup or cutmix of every training batch; with both, one of them at random."""
    if not config.trainer.mixup and not config.trainer.cutmix:
        return None
    from torchvision.transforms import v2

    kinds = ((v2.MixUp, config.trainer.mixup), (v2.CutMix, config.trainer.cutmix))
    made = [kind(alpha=float(alpha), num_classes=config.dataset.num_classes) for kind, alpha in kinds if alpha]
    return v2.RandomChoice(made)


def build_trainer(
    config: DictConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: WeightControl,
    images: ImageData,
    device: torch.device,
    records: tuple[RunFolder, Loggers] | None = None,
) -> Trainer:
    """The trainer of a network that is on its device and not compiled; without a place for its ``records`` it keeps none.

    Raises:
        UserError: for a batch that is too small for all processes.
    """
    share = (rank(), replicas())
    train = build_batches(config, images.train, device, train=True, share=share)
    evaluated = {
        name: build_batches(config, split, device, train=False, share=share)
        for name, split in (("validation", images.validation), ("test", images.test))
        if split
    }
    recorder = None
    if records is not None:
        run, loggers = records
        best_by = f"{images.chosen_by}_accuracy"
        recorder = RunRecorder(run, config, loggers, best_by, train.images, images.class_names, train.as_pictures)
    return _named_errors(Trainer, "dataset")(
        model,
        optimizer,
        train,
        **evaluated,
        settings=build_settings(config),
        schedule=build_schedule(config),
        weights=weights,
        batch_transform=build_batch_transform(config),
        recorder=recorder,
    )


def build_study(config: DictConfig) -> Callable[..., list[dict[str, float]]]:
    parts = {"init": _named_errors(_instantiate(config, "study.init"), "study.init")} if "init" in config.study else {}
    return _instantiate(config, "study", **parts)


def build_measurement(config: DictConfig, name: str) -> Any:
    """Something to measure of a trained network.

    Raises:
        UserError: if it cannot be measured here, for example because a package is missing.
    """
    return _instantiate(config, name, _convert_="all")


def build_loggers(config: DictConfig) -> Loggers:
    """Where the run is shown while it trains.

    Raises:
        UserError: for a logger whose package is missing or whose server denies access.
    """
    return Loggers([_instantiate(config, f"logger.{name}") for name in config.logger if is_main_process()])


def _instantiate(config: DictConfig, key: str, **arguments: Any) -> Any:
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(f"{key}: names no class or function under _target_")
    try:
        return instantiate(node, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, TypeError | ValueError):
            inner = re.findall(r"^full_key: (.+)$", str(error), re.MULTILINE)
            raise UserError(_under(_settable(config, *inner or [key]), error.__cause__)) from error
        raise


def _named_errors(factory: Callable[..., Made], key: str) -> Callable[..., Made]:
    """The factory; its errors about arguments are prefixed with their key."""

    def make(*arguments: Any, **options: Any) -> Made:
        try:
            return factory(*arguments, **options)
        except (TypeError, ValueError) as error:
            raise UserError(_under(key, error)) from error

    return make


def _settable(config: DictConfig, key: str) -> str:
    """The key itself, or that of a group that is interpolated into a layer: backward.second for norm.backward.second."""
    layer, _, inner = key.partition(".")
    return inner if inner and OmegaConf.is_interpolation(config[layer], inner.partition(".")[0]) else key


def _under(key: str, error: Exception) -> str:
    """The message of an error about the values under a key, or about one argument if it begins with its name."""
    message = first_line(error)  # torch adds lines about its own code
    return f"{key}.{message}" if re.match(r"\w+=", message) else f"{key}: {message}"
