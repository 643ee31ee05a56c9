"""The derivative itself."""

from dataclasses import dataclass

from torch import Tensor

from spectral_repro.linalg.backward.decomposition import Decomposition
from spectral_repro.linalg.functions import SpectralFunction


@dataclass(frozen=True)
class Exact(Decomposition):
    """The derivative itself (Daleckii-Krein): D_ij = f[lambda_i, lambda_j], the divided difference.

    Written without subtraction where f allows it, so ties and tiny gaps cost no accuracy. For a smooth f bounded by max |f'|.
    """

    def kernel(self, function: SpectralFunction, eigenvalues: Tensor) -> Tensor:
        return function.divided_differences(eigenvalues)
