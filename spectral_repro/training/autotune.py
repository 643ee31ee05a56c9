"""Chooses the memory layout of a training, and whether the network is compiled, by a short measurement."""

from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from spectral_repro.data import random_images
from spectral_repro.errors import first_line
from spectral_repro.training.build import (
    build_model,
    build_optimizer,
    build_trainer,
    build_weight_control,
    compile_network,
    place,
)
from spectral_repro.training.environment import fastest_precision
from spectral_repro.training.processes import first_over_ranks
from spectral_repro.training.trainer import Trainer

WARM_UP, LEAST, SECONDS = 2, 5, 3.0  # untimed steps; the smallest number of timed steps, and their smallest total time


def fastest_layout(config: DictConfig, device: torch.device) -> dict[str, Any]:
    """Times training steps in both memory layouts, and compiled in the faster of the two.

    The steps are those of the configuration on one batch of random images. The precision is not changed. If trainer.compile is
    a mode of `torch.compile`, this mode is timed.

    Returns:
        The fastest values of channels_last and compile, and under milliseconds the median times of a step by name. If the
        network cannot be compiled, not_compiled has the reason.
    """
    mode = config.trainer.compile or True
    times: dict[tuple[bool, bool | str], float] = {}
    for channels_last in (True, False):
        times[channels_last, False] = _step_time(config, device, channels_last, compiled=False)
    channels_last = times[True, False] <= times[False, False]
    failure = {}
    try:
        times[channels_last, mode] = _step_time(config, device, channels_last, compiled=mode)
    except RuntimeError as error:  # no compiler, or no memory for it
        failure = {"not_compiled": first_line(error)}
    torch.compiler.reset()
    channels_last, compiled = min(times, key=times.__getitem__)
    shown = {_words(*layout): round(1000 * time, 3) for layout, time in times.items()}
    return {"channels_last": channels_last, "compile": compiled, "milliseconds": shown} | failure


def with_layout(config: DictConfig, channels_last: bool, compiled: bool | str) -> DictConfig:
    """The configuration with another memory layout and compilation, true, false or a mode of `torch.compile`."""
    config = config.copy()
    config.trainer.channels_last, config.trainer.compile = channels_last, compiled
    return config


def ready(config: DictConfig, device: torch.device) -> tuple[Trainer, tuple[Tensor, Tensor]]:
    """A trainer with random initial weights, and a batch of random images of the shape of the configuration's data set."""
    if config.precision == "auto":
        config = config.copy()
        config.precision = fastest_precision(device)
    dataset = config.dataset
    images = random_images(dataset.num_classes, dataset.channels, dataset.image_size, dataset.batch_size, 1)
    model = place(config, build_model(config), device)
    optimizer, weights = build_optimizer(config, model), build_weight_control(config, model)
    made = build_trainer(config, model, optimizer, weights, images, device)
    compile_network(config, model)
    model.train()
    return made, next(made.train_batches.epoch(0))


def _step_time(config: DictConfig, device: torch.device, channels_last: bool, compiled: bool | str) -> float:
    """The median time of a step in seconds, that of the first process where there are several."""
    trainer, batch = ready(with_layout(config, channels_last, compiled), device)
    trainer.state.full_rates = [0.0] * len(trainer.state.full_rates)  # so that no weight becomes infinite
    times: list[float] = []
    for number in count():
        if number >= WARM_UP + LEAST and first_over_ranks(sum(times[WARM_UP:])) >= SECONDS:
            break
        start, trainer.state.step = perf_counter(), 0
        trainer.step(*batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(perf_counter() - start)
    return first_over_ranks(median(times[WARM_UP:]))


def _words(channels_last: bool, compiled: bool | str) -> str:
    layout = "channels_last" if channels_last else "contiguous"
    return f"{layout}, {'compiled' if compiled is True else compiled}" if compiled else layout
