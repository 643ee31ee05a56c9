"""What a training does about the spectra of its weights besides optimising them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spectral_repro.constraints import Constraint
from spectral_repro.training.singular_values import LargestSingularValues, add_epoch


@dataclass(frozen=True)
class WeightControl:
    """A penalty in the loss, a constraint after every step, a measurement after every epoch, or any of them."""

    network: nn.Module
    penalty: Callable[[nn.Module], Tensor] | None
    constraint: Constraint | None
    largest: LargestSingularValues | None

    def penalised(self, loss: Tensor) -> Tensor:
        return loss + self.penalty(self.network) if self.penalty else loss

    def after_step(self, step: int) -> None:
        if self.constraint:
            self.constraint.apply(step)

    @torch.no_grad()
    def after_epoch(self, epoch: int, path: Path) -> tuple[dict[str, float], dict[str, float]]:
        """What metrics.csv and what the loggers are to say; the singular values go to a file at ``path``."""
        columns, scalars = {}, {}
        if self.penalty:
            columns["penalty"] = self.penalty(self.network).item()
        if self.constraint:
            columns |= self.constraint.metrics()
        if self.largest:
            rows = self.largest.measure()
            add_epoch(path, epoch, rows)
            columns["largest_singular_value"] = max(row["exact"] for row in rows)
            scalars = {f"singular_value/{row['layer']}/{kind}": row[kind] for row in rows for kind in ("exact", "power")}
        return columns, scalars

    def state_dict(self) -> dict[str, object]:
        return self.constraint.state_dict() if self.constraint else {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        if self.constraint:
            self.constraint.load_state_dict(state)
