"""The exact derivative."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_repro.linalg.backward.method import Gapped
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class Exact(Gapped):
    """The exact derivative (Daleckii-Krein): D_ij = f[lambda_i, lambda_j], the divided difference.

    Computed without subtraction where f allows it, so ties and tiny gaps cost no accuracy; bounded by max |f'| for a smooth f.
    Between two eigenvalues that are 0, where a root has an infinite slope, D is 0. This is correct for A = X X^T as long as X
    keeps its rank, because X has no component in those directions.

    It has second derivatives, from f[lambda_i, lambda_j, lambda_k], also at ties, and forward mode.

    For the eigenvectors themselves, K_ij = 1 / (lambda_j - lambda_i) is unbounded; at a tie, where they have no derivative, it
    is 0.

    On every device F and its gradient come from `torch.linalg.eigh`. Where that is slow, such as for large matrices on CUDA in
    torch before 2.12, `Lyapunov(iterations, forward="newton_schulz")` needs only matrix products.

    Example:
        >>> A = torch.tensor([[2.5, 1.5], [1.5, 2.5]], requires_grad=True)  # eigenvalues 4 and 1
        >>> sqrtm(A, backward=Exact())[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.1875)
        >>> A = torch.eye(2, requires_grad=True)  # two equal eigenvalues
        >>> sqrtm(A, backward=Exact())[0, 1].backward()
        >>> A.grad[0, 1]
        tensor(0.2500)
    """

    @property
    def is_derivative(self) -> bool:
        return True

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        differences = function.divided_differences(eigenvalues)
        return differences.masked_fill(differences == torch.inf, 0.0) if function.from_zero else differences

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
        return 1 / torch.where(gaps == 0, torch.inf, gaps)
