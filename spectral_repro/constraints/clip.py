"""Clips singular values to a bound (Sedghi, Gupta and Long 2019)."""

from torch import nn

from spectral_repro.bounds import Count, NotNegative, Positive
from spectral_repro.constraints.constraint import Constraint
from spectral_repro.constraints.operators import Operator
from spectral_repro.linalg import clip_conv
from spectral_repro.linalg.checks import check_count


class Clip(Constraint):
    """Applies `clip_conv` to every layer, at the size of its input. Synchronises with the device.

    For padding with reflected or replicated pixels the bound is divided by the norm of the padding, so that it holds for the
    layer with its padding.

    Args:
        network, image_shape, orthonormal_frames, clip_to, every, linear_to, batch_norm_to, batch_norm_every: those of
            `Constraint`.
        rounds, tolerance: those of `clip_conv`.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        >>> constraint = Clip(network, (3, 16, 16), orthonormal_frames=False, clip_to=0.5, rounds=100, tolerance=0.01)
        >>> constraint.apply(step=1)
        >>> bool(conv_norm(network[2].weight, 16) < 0.51)
        True
    """

    def __init__(
        self,
        network: nn.Module,
        image_shape: tuple[int, int, int],
        orthonormal_frames: bool,
        clip_to: Positive,
        every: Count = 1,
        linear_to: Positive | None = None,
        batch_norm_to: Positive | None = None,
        batch_norm_every: Count = 1,
        rounds: Count = 1,
        tolerance: NotNegative = 0.0,
    ):
        super().__init__(network, image_shape, orthonormal_frames, clip_to, every, linear_to, batch_norm_to, batch_norm_every)
        check_count("rounds", rounds)
        if not tolerance >= 0:
            raise ValueError(f"tolerance={tolerance}: must be a number >= 0")
        self.rounds, self.tolerance = rounds, tolerance
        self.memory["remaining"] = float("nan")

    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        self.memory["remaining"] = max((self._clip(operator, bound) for operator, bound in bounded), default=1.0)

    def _clip(self, operator: Operator, bound: float) -> float:
        """Clips a layer; returns its largest singular value afterwards, divided by the bound, and at least 1."""
        weight, limit = operator.weight, bound / operator.expansion
        clipped = clip_conv(weight, clip_to=limit, rounds=self.rounds, tolerance=self.tolerance, **operator.circular)
        if clipped is weight:
            return 1.0
        weight.copy_(clipped)
        return max(1.0, operator.norm().item() / bound)

    def metrics(self) -> dict[str, float]:
        """``clip_remaining``: the largest ratio of singular value to bound after the last crop, at least 1."""
        return {"clip_remaining": self.memory["remaining"]}
