"""Singular values above a bound are set to it (Sedghi, Gupta and Long 2019)."""

from spectral_repro.bounds import Count, NotNegative
from spectral_repro.constraints.constraint import Constraint
from spectral_repro.constraints.operators import Operator
from spectral_repro.linalg import clip_conv, conv_norm


class Clip(Constraint):
    """`clip_conv` of every layer, at the size of its input; waits for the device.

    Args:
        rounds, tolerance: those of `clip_conv`.
        others: those of `Constraint`.
    """

    def __init__(self, *arguments, rounds: Count = 1, tolerance: NotNegative = 0.0, **options):
        super().__init__(*arguments, **options)
        self.rounds, self.tolerance = rounds, tolerance
        self.memory["remaining"] = float("nan")

    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        self.memory["remaining"] = max((self._clip(operator, bound) for operator, bound in bounded), default=1.0)

    def _clip(self, operator: Operator, bound: float) -> float:
        """Clips a layer; its largest singular value over the bound afterwards, 1 where that is within."""
        weight = operator.weight
        clipped = clip_conv(weight, clip_to=bound, rounds=self.rounds, tolerance=self.tolerance, **operator.circular)
        if clipped is weight:
            return 1.0
        weight.copy_(clipped)
        return max(1.0, conv_norm(weight, **operator.circular).item() / bound)

    def metrics(self) -> dict[str, float]:
        """``clip_remaining``: the largest singular value over its bound after the last crop, 1 if none was above."""
        return {"clip_remaining": self.memory["remaining"]}
