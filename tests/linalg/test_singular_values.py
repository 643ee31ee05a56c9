"""Clipped singular values and their gradient, at equal singular values too."""

import pytest
import torch

from spectral_repro.linalg.singular_values import clip_singular_values

SPECTRA = {
    "apart": (3.0, 2.0, 0.5, 0.1),
    "equal above and below": (2.0, 2.0, 0.5, 0.5),
    "all above": (3.0, 3.0, 3.0, 3.0),
    "zeros": (2.0, 0.4, 0.0, 0.0),
}
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])


def matrix(spectrum: tuple[float, ...], columns: int, dtype: torch.dtype) -> torch.Tensor:
    left = torch.linalg.qr(torch.randn(4, 4, dtype=dtype)).Q
    right = torch.linalg.qr(torch.randn(columns, columns, dtype=dtype)).Q[:4]
    return (left * torch.tensor(spectrum, dtype=torch.float64)) @ right


@each_dtype
@pytest.mark.parametrize("columns", [4, 6])
@pytest.mark.parametrize("name", SPECTRA)
def test_values_and_gradient(name: str, columns: int, dtype: torch.dtype):
    torch.manual_seed(0)
    a = matrix(SPECTRA[name], columns, dtype)
    for x in (a, a.mT):
        clipped = torch.linalg.svdvals(clip_singular_values(x, 1.0))
        torch.testing.assert_close(clipped, torch.tensor(SPECTRA[name], dtype=torch.float64).clamp_max(1))
        assert torch.autograd.gradcheck(lambda x: clip_singular_values(x, 1.0), (x.clone().requires_grad_(),))


def test_values_within_the_limit_are_unchanged():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(clip_singular_values(x, 100.0), x)


def test_vmap_and_a_second_derivative():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, requires_grad=True)
    torch.testing.assert_close(torch.func.vmap(lambda x: clip_singular_values(x, 1.0))(x), clip_singular_values(x, 1.0))
    (gradient,) = torch.autograd.grad(clip_singular_values(x, 1.0).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="cannot be differentiated twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("limit", [-1.0, 0.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit: float):
    with pytest.raises(ValueError, match=f"limit={limit}: must be a number > 0"):
        clip_singular_values(torch.eye(2), limit)


def test_autocast_does_not_reach_it():
    a = torch.randn(6, 4).requires_grad_()
    expected = clip_singular_values(a, 0.5)
    (gradient,) = torch.autograd.grad(expected.sum(), a)
    with torch.autocast("cpu", torch.bfloat16):
        found = clip_singular_values(a, 0.5)
    assert torch.equal(found, expected) and torch.equal(torch.autograd.grad(found.sum(), a)[0], gradient)
