"""The Tucker-2 decomposition of a kernel: a small core between two matrices with orthonormal columns."""

from typing import NamedTuple

import torch
from torch import Tensor

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import check_count, dtype_name, is_count
from spectral_repro.linalg.hermitian import decompose


class Tucker2(NamedTuple):
    """W[o, i, ...] ~ sum_ba left[o, b] core[b, a, ...] right[i, a]."""

    left: Tensor
    """(out, r_2), orthonormal columns."""
    core: Tensor
    """(r_2, r_1, ...)."""
    right: Tensor
    """(in, r_1), orthonormal columns."""
    relative_error: Tensor
    """|W - approximation|_F / |W|_F, a tensor of one number; 0 for W = 0."""

    def compose(self) -> Tensor:
        """The approximation (out, in, ...)."""
        return compose(self.left, self.core, self.right)


def compose(left: Tensor, core: Tensor, right: Tensor) -> Tensor:
    """sum_ba left[o, b] core[b, a, ...] right[i, a]: (out, in, ...), outside autocast."""
    with full_precision(core.device):
        return torch.einsum("ob,ba...,ia->oi...", left, core, right)


@torch.no_grad()
def tucker2(weight: Tensor, ranks: tuple[int, int], iterations: int = 2) -> Tucker2:
    """The truncated Tucker-2 decomposition of a kernel, close to the best approximation of these ranks.

    ``left`` and ``right`` start as the leading left singular vectors of the two unfoldings of W (truncated higher-order SVD),
    which is within a factor sqrt(2) of the smallest error (De Lathauwer, De Moor and Vandewalle 2000, "A multilinear singular
    value decomposition"). Each of the ``iterations`` then updates both matrices in turn, each to the best one for the other
    (higher-order orthogonal iteration). Computed in float64.

    Args:
        weight: W (out, in, ...), such as the kernel of a convolution; real.
        ranks: (r_1, r_2) for the input and the output channels.
        iterations: of higher-order orthogonal iteration.

    Returns:
        left, core, right and the relative error, in the dtype of the weight.

    Raises:
        ValueError: for a complex weight, for a rank that is not a whole number from 1 to the number of channels, and for
            fewer than 0 iterations.

    Example:
        >>> left, core, right, error = tucker2(torch.randn(16, 8, 3, 3), ranks=(4, 6))
        >>> left.shape, core.shape, right.shape
        (torch.Size([16, 6]), torch.Size([6, 4, 3, 3]), torch.Size([8, 4]))
    """
    if weight.dim() < 2 or weight.is_complex():
        found = f"{tuple(weight.shape)} in {dtype_name(weight.dtype)}"
        raise ValueError(f"weight: must be (out, in, ...) of real numbers, not {found}")
    (inner, outer), (outputs, inputs) = ranks, weight.shape[:2]
    if not (is_count(inner) and is_count(outer) and inner <= inputs and outer <= outputs):
        limits = f"{inputs} input and the {outputs} output channels"
        raise ValueError(f"ranks={tuple(ranks)}: must be whole numbers from 1 to the {limits}")
    check_count("iterations", iterations, least=0)
    kernel = weight.double()
    left, right = _leading(kernel, outer), _leading(kernel.transpose(0, 1), inner)
    for _ in range(iterations):
        left = _leading(torch.einsum("oi...,ia->oa...", kernel, right), outer)
        right = _leading(torch.einsum("oi...,ob->ib...", kernel, left), inner)
    core = torch.einsum("oi...,ob,ia->ba...", kernel, left, right)
    norm = torch.linalg.vector_norm(kernel)
    error = torch.linalg.vector_norm(kernel - compose(left, core, right)) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return Tucker2(*(part.to(weight.dtype) for part in (left, core, right, error)))


def _leading(tensor: Tensor, count: int) -> Tensor:
    """The first left singular vectors of a tensor (n, ...) as a matrix of n rows: (n, count)."""
    rows = tensor.flatten(1)
    return decompose(rows @ rows.mT)[1][:, :count]
