"""The state of a training: everything that determines how it continues."""

import copy
import random
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from spectral_repro.optim.schedules import Schedule
from spectral_repro.training.weights import AveragedWeights, WeightControl


def seed_all(seed: int) -> None:
    """Seeds the random generators of the process: torch's on the CPU and on the device, NumPy's, Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def generator_states(device: torch.device) -> dict[str, Any]:
    """The states of the random generators, as tensors and plain values."""
    legacy = np.random.get_state(legacy=False)
    numpy = legacy | {"state": legacy["state"] | {"key": torch.from_numpy(legacy["state"]["key"])}}
    found = {"cpu": torch.get_rng_state(), "numpy": numpy, "python": random.getstate()}
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_generators(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    numpy = states["numpy"]
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": numpy["state"]["key"].cpu().numpy()}})
    random.setstate(states["python"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """The factor of the learning rate at a step of a training of ``steps`` steps: the schedule at the middle of the step, so
    that no step has the rate 0 at which a warm-up begins and a decay ends.
    """
    return schedule(Fraction(2 * step + 1, 2 * steps))


class TrainingState:
    """Network, averaged weights, optimiser, schedule, scaler and constraint, the step reached, the sums of the running epoch,
    the metrics so far, and the random generators.

    ``sums`` on the device holds the summed loss, correct predictions and images of the current epoch, ``extremes`` its largest
    gradient norm and smallest relative gap between eigenvalues.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        steps: int,
        precision: str,
        weights: WeightControl,
        ema: AveragedWeights | None = None,
    ):
        self.model, self.optimizer, self.weights, self.ema = model, optimizer, weights, ema
        self.schedule, self.steps = schedule, steps
        self.full_rates = [group["lr"] for group in optimizer.param_groups]
        self.device = next(model.parameters()).device
        self.autocast = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")
        self.step = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.extremes = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.seconds = 0.0
        self.start_epoch()
        self.rows: list[dict[str, float]] = []

    @property
    def progress(self) -> float:
        """The fraction of the training that was done before the last step."""
        return max(self.step - 1, 0) / self.steps

    @property
    def networks(self) -> list[nn.Module]:
        """The network, and its average if there is one."""
        return [self.model, *([self.ema.module] if self.ema else [])]

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "constraint": self.weights.state_dict(),
            "step": self.step,
            "progress": self.progress,
            "sums": self.sums,
            "extremes": self.extremes,
            "seconds": self.seconds,
            "rows": self.rows,
            "generators": generator_states(self.device),
        } | ({"ema": self.ema.module.state_dict(), "ema_steps": self.ema.steps} if self.ema else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: for a step or rows that no training of this length has, before anything is loaded.
        """
        step, rows = state["step"], state["rows"]
        if not isinstance(step, int) or not 0 <= step <= self.steps:
            raise ValueError(f"step={step}: must be a whole number between 0 and {self.steps}")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("rows: must be a list with the values of each epoch by name")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.weights.load_state_dict(state["constraint"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
            self.ema.steps = state["ema_steps"]
        self.step, self.seconds, self.rows = step, state["seconds"], list(rows)
        self.sums.copy_(state["sums"])
        self.extremes.copy_(state["extremes"])
        restore_generators(state["generators"], self.device)

    def start_epoch(self) -> None:
        self.sums.zero_()
        self.extremes.copy_(torch.tensor([0.0, torch.inf]))

    def schedule_learning_rate(self) -> None:
        """Sets the learning rates of this step."""
        factor = rate_factor(self.schedule, self.step, self.steps)
        for group, full_rate in zip(self.optimizer.param_groups, self.full_rates, strict=True):
            group["lr"] = full_rate * factor

    def snapshot(self) -> dict[str, Any]:
        """A copy that later steps do not change."""
        return copy.deepcopy(self.state_dict())
