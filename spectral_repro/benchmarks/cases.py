"""One function of a batch of matrices in one dtype, and the results of a gradient method for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from spectral_repro.benchmarks.accuracy import angle, norms, relative_error
from spectral_repro.benchmarks.clock import Job
from spectral_repro.benchmarks.problems import Problem
from spectral_repro.benchmarks.tasks import DTYPES, TASKS, Task
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import Backward
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class Case:
    """One of `TASKS` on the matrices of a problem, in one of `DTYPES`, on a device."""

    problem: Problem
    function_name: str
    dtype_name: str
    device: torch.device

    @property
    def names(self) -> dict[str, Any]:
        return {"function": self.function_name, "size": self.problem.size, "dtype": self.dtype_name}

    @property
    def task(self) -> Task:
        return TASKS[self.function_name]

    @property
    def function(self) -> SpectralFunction:
        return self.task.function(self.problem.size)

    @property
    def shift(self) -> float:
        return self.task.shift(DTYPES[self.dtype_name])

    @cached_property
    def value(self) -> Tensor:
        """F (n, d, d), float64."""
        return self.problem.value(self.function, self.shift)

    @cached_property
    def gradient(self) -> Tensor:
        """dL/dA (n, d, d), float64."""
        return self.problem.gradient(self.function, self.shift)

    @cached_property
    def given(self) -> tuple[Tensor, Tensor]:
        """A and dL/dF in the dtype and on the device of the case."""
        dtype = DTYPES[self.dtype_name]
        return self.problem.matrices.to(self.device, dtype), self.problem.grad_output.to(self.device, dtype)

    def refusal(self, method: Backward) -> str | None:
        """Why the method is not defined for this function; None if it is."""
        try:
            method.check(self.function, self.shift)
        except ValueError as error:
            return str(error)
        return None

    def forward(self, method: Backward) -> tuple[Tensor, Callable[[], Tensor]]:
        """F, and a function that computes dL/dA."""
        matrices, grad_output = self.given
        leaf = matrices.detach().requires_grad_()
        result, _ = matrix_function(leaf, self.function, method, self.shift)
        return result.detach(), lambda: torch.autograd.grad(result, leaf, grad_output)[0]

    def job(self, method: Backward) -> Job:
        return lambda: self.forward(method)[1]

    def accuracy(self, method: Backward) -> dict[str, float]:
        """Errors of a method. All but the last are taken over the matrices whose gradient is finite.

        Returns:
            error, error_max: median and largest |dL/dA - exact| / |exact|. angle_deg: median angle between the two.
            feature_error: median relative error of dL/dX = 2 dL/dA X for features X with A = X X^T, in which directions that X
            does not have do not count. forward_error: median relative error of F. gain_max: largest |dL/dA| / |dL/dF|.
            non_finite: share of the matrices whose gradient is not finite.
        """
        value, backward = self.forward(method)
        value, gradient = (x.cpu().double() for x in (value, backward()))
        measured = pd.DataFrame(
            {
                "error": relative_error(gradient, self.gradient),
                "angle": angle(gradient, self.gradient),
                "features": relative_error(gradient @ self.problem.features, self.gradient @ self.problem.features),
                "forward": relative_error(value, self.value),
                "gain": norms(gradient) / norms(self.problem.grad_output),
            }
        )
        finite = gradient.isfinite().all(-1).all(-1)
        medians, largest = measured[finite.numpy()].median(), measured[finite.numpy()].max()
        return {
            "error": medians["error"],
            "error_max": largest["error"],
            "angle_deg": medians["angle"],
            "feature_error": medians["features"],
            "forward_error": medians["forward"],
            "gain_max": largest["gain"],
            "non_finite": 1 - finite.double().mean().item(),
        }
