"""The truncated Tucker-2 decomposition: exact where the ranks suffice, near the best approximation elsewhere."""

import pytest
import torch

from spectral_repro.linalg.tucker import compose, tucker2


def kernel(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "ranks"), [((7, 5, 3, 3), (3, 4)), ((4, 6, 1, 1), (2, 2)), ((5, 4), (4, 5))])
def test_a_kernel_of_these_ranks_is_decomposed_exactly(shape, ranks):
    inner, outer = ranks
    weight = compose(kernel(shape[0], outer), kernel(outer, inner, *shape[2:], seed=1), kernel(shape[1], inner, seed=2))
    found = tucker2(weight, ranks)
    torch.testing.assert_close(found.compose(), weight)
    torch.testing.assert_close(found.left.mT @ found.left, torch.eye(outer).double())
    torch.testing.assert_close(found.right.mT @ found.right, torch.eye(inner).double())
    assert found.relative_error < 1e-12


def test_the_error_is_that_of_the_approximation_and_near_the_smallest():
    """Between the tail of one unfolding and that of both, and no iteration makes it larger."""
    weight = kernel(8, 6, 3, 3)
    tails = [torch.linalg.svdvals(w.flatten(1))[3:].square().sum() for w in (weight, weight.transpose(0, 1))]
    norm = torch.linalg.vector_norm(weight)
    errors = []
    for iterations in (0, 1, 5):
        found = tucker2(weight, (3, 3), iterations)
        torch.testing.assert_close(found.relative_error, torch.linalg.vector_norm(found.compose() - weight) / norm)
        errors.append(found.relative_error)
    assert max(tails).sqrt() / norm <= errors[2] <= errors[1] <= errors[0] <= sum(tails).sqrt() / norm


def test_a_zero_kernel_and_dtypes():
    found = tucker2(torch.zeros(4, 3, 3, 3, dtype=torch.bfloat16), (2, 2))
    assert found.relative_error == 0 and {part.dtype for part in found} == {torch.bfloat16}


@pytest.mark.parametrize("ranks", [(0, 2), (4, 2), (2, 5)])
def test_ranks_out_of_range_are_refused(ranks):
    with pytest.raises(ValueError, match="must be whole numbers from 1 to the 3 input and the 4 output channels"):
        tucker2(torch.zeros(4, 3, 3, 3), ranks)


@pytest.mark.parametrize("weight", [torch.zeros(4, 3, dtype=torch.complex64), torch.zeros(4)], ids=["complex", "vector"])
def test_another_weight_is_refused(weight: torch.Tensor):
    with pytest.raises(ValueError, match=r"^weight: must be \(out, in, ...\) of real numbers"):
        tucker2(weight, (2, 2))
