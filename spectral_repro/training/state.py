"""Everything that decides how a training goes on."""

import copy
from fractions import Fraction

import torch
from torch import nn

from spectral_repro.optim.schedules import Schedule
from spectral_repro.training import generators
from spectral_repro.training.weights import WeightControl


class TrainingState:
    """Network, optimiser, schedule, scaler and constraint, the step reached, the sums of the running epoch, the metrics so far,
    and the random generators.

    On the device, ``sums`` holds the running epoch's summed loss, correct predictions and images, ``extremes`` its largest
    gradient norm and its smallest relative gap between eigenvalues.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        steps: int,
        scaler: torch.amp.GradScaler,
        weights: WeightControl,
    ):
        self.model, self.optimizer, self.scaler, self.weights = model, optimizer, scaler, weights
        self.schedule, self.steps = schedule, steps
        self.full_rates = [group["lr"] for group in optimizer.param_groups]
        self.device = next(model.parameters()).device
        self.step = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.extremes = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.seconds = 0.0
        self.start_epoch()
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, object]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "constraint": self.weights.state_dict(),
            "step": self.step,
            "sums": self.sums,
            "extremes": self.extremes,
            "seconds": self.seconds,
            "rows": self.rows,
            "generators": generators.states(self.device),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.weights.load_state_dict(state["constraint"])
        self.step, self.seconds, self.rows = state["step"], state["seconds"], list(state["rows"])
        self.sums.copy_(state["sums"])
        self.extremes.copy_(state["extremes"])
        generators.restore(state["generators"], self.device)

    def start_epoch(self) -> None:
        self.sums.zero_()
        self.extremes.copy_(torch.tensor([0.0, torch.inf]))

    def schedule_learning_rate(self) -> None:
        """Gives the optimiser the learning rates of this step."""
        factor = self.schedule(Fraction(self.step, self.steps))
        for group, full_rate in zip(self.optimizer.param_groups, self.full_rates, strict=True):
            group["lr"] = full_rate * factor

    def snapshot(self) -> dict[str, object]:
        """A copy that later steps do not touch."""
        return copy.deepcopy(self.state_dict())
