from functools import partial

import pytest
import torch

from spectral_repro.benchmarks.problems import draw
from spectral_repro.benchmarks.spectra import NAMED, clusters, deficient, leading, sweeps

SPECTRA = NAMED | sweeps([0, 3, 14], [3, 8, 15])


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("size", [4, 8, 64])
def test_descending_from_one_without_a_tie_at_the_cut(name: str, size: int):
    eigenvalues = SPECTRA[name].eigenvalues(size)
    assert eigenvalues.shape == (size,) and eigenvalues[0] == 1
    assert (eigenvalues.diff() <= 0).all() and (eigenvalues >= 0).all()
    cut = leading(size)
    if name != "condition 1e0":
        assert (eigenvalues[cut - 1] - eigenvalues[cut]) / eigenvalues[cut - 1] > 1e-2


def test_condition_numbers_and_gaps():
    problems = {name: draw(spectrum, 16, 1, seed=0) for name, spectrum in SPECTRA.items()}
    assert problems["condition 1e3"].condition == pytest.approx(1e3)
    assert problems["gap 1e-8"].gap == pytest.approx(1e-8)
    assert problems["clustered"].gap == pytest.approx(1e-6)
    assert problems["repeated"].gap == problems["tied"].gap == 0
    assert problems["deficient"].condition == torch.inf and (deficient(16) > 0).sum() == 8
    assert partial(clusters, gap=0.0)(16).unique().tolist() == [0.125, 0.25, 0.5, 1]


def test_eigenvalues_and_features_of_the_matrices():
    problem = draw(NAMED["separated"], 8, 3, seed=1)
    assert torch.allclose(torch.linalg.eigvalsh(problem.matrices).flip(-1), problem.eigenvalues)
    assert torch.allclose(problem.features @ problem.features.mT, problem.matrices)
    tied = draw(NAMED["tied"], 8, 3, seed=1)
    assert torch.equal(tied.matrices, torch.diag(tied.eigenvalues).expand(3, 8, 8))


def test_the_seed_decides_the_matrices():
    first, again, other = (draw(NAMED["separated"], 8, 2, seed) for seed in (5, 5, 6))
    assert torch.equal(first.matrices, again.matrices) and torch.equal(first.grad_output, again.grad_output)
    assert not torch.equal(first.matrices, other.matrices)
