"""A weight is divided so that its largest singular value keeps a bound (Gouk et al. 2021)."""

import torch

from spectral_repro.bounds import Count
from spectral_repro.constraints.constraint import Constraint
from spectral_repro.constraints.operators import Operator
from spectral_repro.linalg import conv_norm, conv_power_iteration
from spectral_repro.linalg.conv_clip import divisor


class DivideByExactLargest(Constraint):
    """w / max(1, sigma / c) with sigma = `conv_norm`, exact for circular padding; waits for the device."""

    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        for operator, bound in bounded:
            operator.weight.div_(divisor(conv_norm(operator.weight, **operator.circular), bound))


class DivideByLargest(Constraint):
    """w / max(1, sigma / c) with sigma by power iterations, zero padding included, that go on where they stopped the last time.

    The device is not waited for. sigma is found from below: right after a large change of the weights some excess remains.

    Args:
        iterations: each time.
        others: those of `Constraint`.
    """

    def __init__(self, *arguments, iterations: Count = 2, **options):
        super().__init__(*arguments, **options)
        self.iterations = iterations
        generator = torch.Generator().manual_seed(0)  # of its own, so that the training draws what it does without
        self.memory |= {operator.name: operator.random_input(generator) for operator in self.bounded}

    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        for operator, bound in bounded:
            weight, start, options = operator.weight, self.memory[operator.name], operator.zero_padded
            largest, self.memory[operator.name] = conv_power_iteration(weight, start, **options, iterations=self.iterations)
            weight.div_(divisor(largest, bound))


class DivideEachByLargest(DivideByLargest):
    """The same with the three factors of a TT layer, each brought within the bound by itself."""

    factors_apart = True
