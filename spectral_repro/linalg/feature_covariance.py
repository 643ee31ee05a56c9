"""Functions of the covariance of features, from the smaller of the covariance and the Gram matrix."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from spectral_repro.linalg.autograd import in_full_precision
from spectral_repro.linalg.backward import Kernel
from spectral_repro.linalg.functions import SpectralFunction


def covariance(features: Tensor) -> Tensor:
    """X J X^T / P, J = I - 1 1^T / P: the covariance (..., C, C) of features X (..., C, P) over P positions."""
    centred = features - features.mean(-1, keepdim=True)
    return centred @ centred.mT / features.shape[-1]


def covariance_functions(
    features: Tensor, terms: Sequence[tuple[SpectralFunction, Kernel]], dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """f(covariance(X)) for every (f, method), f(0) = 0, all from one decomposition of a matrix of min(C, P) rows.

    With fewer positions than channels the Gram matrix J X^T X J / P = U Lambda U^T has the same eigenvalues but zeros, and the
    eigenvectors that go with them are V = X J U (P Lambda)^(-1/2): the covariance is never formed. Its null space N comes into
    the gradient by the kernel between a lambda and 0, through N N^T = I - V V^T: with G = sym(dL/dF), R = V^T G V, M = D o R,

        dL/dX = (2 / P) (V (M - R D_0) + G V D_0) V^T X J,    D_0 = diag(D(lambda, 0)).

    Eigenvalues below u max(C, P) max(lambda_max, u max mean^2) (u: rounding unit of the dtype; what rounding leaves of an
    eigenvalue, and of constant features after centring) are zero, and the kernel between two zeros is 0: no gradient passes
    there, since X has no part in it.

    Args:
        features: X (..., C, P), float32 or float64.
        terms: functions with f(0) = 0 and the methods of their gradients.
        dtype: of the results F (..., C, C), of the products that form them, and of those of their gradients with V. In one
            narrower than that of X they cost F and the gradient an error of some roundings of their largest entries, while
            small eigenvalues keep the accuracy of X. Default: that of X.
    """
    return _OfFeatures.apply(features, tuple(terms), dtype or features.dtype)


class _OfFeatures(torch.autograd.Function):
    @in_full_precision
    def forward(ctx, features, terms, dtype):
        channels, positions = features.shape[-2:]
        mean = features.mean(-1, keepdim=True)
        centred = features - mean
        by_gram = positions < channels
        eigenvalues, vectors = torch.linalg.eigh(centred.mT @ centred if by_gram else centred @ centred.mT)
        eigenvalues, vectors = eigenvalues.flip(-1) / positions, vectors.flip(-1)
        unit = torch.finfo(features.dtype).eps
        scale = torch.maximum(eigenvalues[..., 0], unit * mean.square().amax((-2, -1)))
        null = eigenvalues <= unit * max(channels, positions) * scale.unsqueeze(-1)
        eigenvalues = torch.where(null, 0.0, eigenvalues)
        if by_gram:
            lengths = torch.where(null, torch.inf, (positions * eigenvalues).sqrt())
            basis = centred @ (vectors / lengths.unsqueeze(-2))
        else:
            basis = vectors
        of_results = basis.to(dtype)
        ctx.terms, ctx.by_gram = terms, by_gram
        ctx.save_for_backward(centred, eigenvalues, vectors, basis, of_results)
        results = []
        for function, method in terms:
            values = method.applied(function)(eigenvalues).to(dtype)
            results.append((of_results * values.unsqueeze(-2)) @ of_results.mT)
        return tuple(results)

    @in_full_precision
    @once_differentiable
    def backward(ctx, *incoming):
        centred, eigenvalues, vectors, basis, of_results = ctx.saved_tensors
        positions, count = centred.shape[-1], eigenvalues.shape[-1]
        with_zero = pad(eigenvalues, (0, 1)) if ctx.by_gram else eigenvalues
        null = eigenvalues == 0
        between_zeros = null.unsqueeze(-1) & null.unsqueeze(-2)
        slopes = []
        for (function, method), gradient in zip(ctx.terms, incoming, strict=True):
            image = gradient @ of_results
            if ctx.by_gram:
                image += gradient.mT @ of_results
            image = image.to(basis.dtype)
            rotated = basis.mT @ image
            rotated = rotated / 2 if ctx.by_gram else (rotated + rotated.mT) / 2
            inner = method.inner(method.applied(function), with_zero, _bordered(rotated) if ctx.by_gram else rotated)
            among = torch.where(between_zeros, 0.0, inner[..., :count, :count])
            if ctx.by_gram:
                with_null = torch.where(null, 0.0, inner[..., :count, count]).unsqueeze(-2)
                slopes.append((basis @ (among - rotated * with_null)).addcmul_(image, with_null, value=0.5))
            else:
                slopes.append(basis @ among)
        if ctx.by_gram:
            coordinates = 2 * (eigenvalues / positions).sqrt().unsqueeze(-1) * vectors.mT
        else:
            coordinates = (basis * (2 / positions)).mT @ centred
        return reduce(torch.add, slopes) @ coordinates, None, None


def _bordered(rotated: Tensor) -> Tensor:
    """A last row and column of ones with 0 in the corner: what the kernel makes of it is D(lambda, 0)."""
    bordered = pad(rotated, (0, 1, 0, 1), value=1.0)
    bordered[..., -1, -1] = 0
    return bordered
