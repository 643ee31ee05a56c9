"""Divides a weight so that its largest singular value is within a bound (Gouk et al. 2021)."""

import torch
from torch import nn

from spectral_repro.bounds import Count, Positive
from spectral_repro.constraints.constraint import Constraint
from spectral_repro.constraints.operators import Operator
from spectral_repro.linalg import conv_power_iteration
from spectral_repro.linalg.checks import check_count
from spectral_repro.linalg.conv_clip import divisor


class DivideByExactLargest(Constraint):
    """w / max(1, sigma / c) with sigma = `Operator.norm`. Synchronises with the device.

    sigma is exact for circular padding, and an upper bound for padding with reflected or replicated pixels.

    Args:
        network, image_shape, orthonormal_frames, clip_to, every, linear_to, batch_norm_to, batch_norm_every: those of
            `Constraint`.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        >>> constraint = DivideByExactLargest(network, (3, 16, 16), orthonormal_frames=False, clip_to=0.5)
        >>> constraint.apply(step=1)
        >>> bool(conv_norm(network[2].weight, 16) < 0.501)
        True
    """

    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        for operator, bound in bounded:
            operator.weight.div_(divisor(operator.norm(), bound))


class DivideByLargest(Constraint):
    """w / max(1, sigma / c) with sigma by power iterations, each continuing from the last one.

    The operator is that of the layer, with padding of any mode. Does not synchronise with the device. sigma is a lower bound,
    so the norm may exceed the bound right after a large change of the weights.

    Args:
        network, image_shape, orthonormal_frames, clip_to, every, linear_to, batch_norm_to, batch_norm_every: those of
            `Constraint`.
        iterations: of each change.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        >>> constraint = DivideByLargest(network, (3, 16, 16), orthonormal_frames=False, clip_to=0.5, iterations=50)
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
        iterations: Count = 2,
    ):
        super().__init__(network, image_shape, orthonormal_frames, clip_to, every, linear_to, batch_norm_to, batch_norm_every)
        check_count("iterations", iterations)
        self.iterations = iterations
        generator = torch.Generator().manual_seed(0)  # of its own, so that the random numbers of the training do not change
        self.memory |= {operator.key: operator.random_input(generator) for operator in self.bounded}

    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        for operator, bound in bounded:
            weight, start = operator.weight, self.memory[operator.key]
            largest, vector = conv_power_iteration(weight, start, **operator.padded, iterations=self.iterations)
            self.memory[operator.key] = vector
            weight.div_(divisor(largest, bound))


class DivideEachByLargest(DivideByLargest):
    """The same, but with each of the three factors of a TT layer bounded by itself.

    Args:
        network, image_shape, orthonormal_frames, clip_to, every, linear_to, batch_norm_to, batch_norm_every, iterations: those
            of `DivideByLargest`.

    Example:
        >>> network = nn.Sequential(TTConv2d(3, 8, 3, padding=1, rank=2))
        >>> constraint = DivideEachByLargest(network, (3, 16, 16), orthonormal_frames=False, clip_to=0.5, iterations=50)
        >>> constraint.apply(step=1)
        >>> bool(torch.linalg.matrix_norm(network[0].reduction.matrix, ord=2) < 0.501)
        True
    """

    factors_apart = True
