"""Backward methods of matrix functions and eigendecompositions.

With A = V diag(lambda) V^T, F = V diag(f(lambda)) V^T and G = dL/dF, most of them are one symmetric kernel D,

    dL/dA = V (D o (V^T sym(G) V)) V^T,    D_ii = f'(lambda_i),

and differ only in D off the diagonal. Eigenvalues come in descending order, so that of a pair i < j the first is the larger.
"""

from spectral_repro.linalg.backward.exact import Exact
from spectral_repro.linalg.backward.gaps import PlainSVD, ThroughEigenvectors, TopN, Truncated
from spectral_repro.linalg.backward.hybrid import Hybrid
from spectral_repro.linalg.backward.iterations import Lyapunov, NewtonSchulz
from spectral_repro.linalg.backward.method import Backward, Gapped, Kernel
from spectral_repro.linalg.backward.series import Pade, PowerIteration, Taylor
from spectral_repro.linalg.backward.unrolled import AutogradSVD, UnrolledPowerIteration

__all__ = [
    "AutogradSVD",
    "Backward",
    "Exact",
    "Gapped",
    "Hybrid",
    "Kernel",
    "Lyapunov",
    "NewtonSchulz",
    "Pade",
    "PlainSVD",
    "PowerIteration",
    "Taylor",
    "ThroughEigenvectors",
    "TopN",
    "Truncated",
    "UnrolledPowerIteration",
]
