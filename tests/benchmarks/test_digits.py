"""The gradient in 50 digits against the float64 reference and finite differences."""

import pytest
import torch

from spectral_repro.benchmarks import digits
from spectral_repro.benchmarks.accuracy import relative_error
from spectral_repro.benchmarks.cases import Case
from spectral_repro.benchmarks.problems import draw
from spectral_repro.benchmarks.spectra import NAMED, sweeps
from spectral_repro.benchmarks.tasks import TASKS
from spectral_repro.linalg.backward import Exact

SPECTRA = NAMED | sweeps([6], [8])


@pytest.mark.parametrize(("spectrum", "digits_lost"), [("separated", 1), ("clustered", 1), ("tied", 1), ("condition 1e6", 6)])
def test_the_reference_and_exact_agree_with_50_digits(spectrum: str, digits_lost: int):
    problem = draw(SPECTRA[spectrum], 4, 1, seed=0)
    decomposition = digits.decompose(problem.matrices[0])
    for name, task in TASKS.items():
        case = Case(problem, name, "float64", torch.device("cpu"))
        truth = digits.gradient(decomposition, problem.grad_output[0], task.scalar, case.shift, task.kept(4)).unsqueeze(0)
        for gradient in (case.gradient, case.forward(Exact())[1]()):
            assert relative_error(gradient, truth).item() < 10 ** (digits_lost - 15)


def test_50_digits_agree_with_finite_differences():
    problem = draw(NAMED["separated"], 4, 1, seed=3)
    (matrix,), (grad_output,) = problem.matrices, problem.grad_output
    truth = digits.gradient(digits.decompose(matrix), grad_output, TASKS["sqrt"].scalar, 0.0, 4)

    def loss(matrix: torch.Tensor) -> torch.Tensor:
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        return (grad_output * ((vectors * eigenvalues.sqrt()) @ vectors.T)).sum()

    direction = torch.randn(4, 4, dtype=torch.float64)
    direction = direction + direction.T
    slope = (loss(matrix + 1e-6 * direction) - loss(matrix - 1e-6 * direction)) / 2e-6
    assert slope.item() == pytest.approx((truth * direction).sum().item(), rel=1e-7)
