"""Eigendecompositions in descending order, and the dtype they are taken in."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from spectral_repro.linalg.hermitian import decompose
from tests.tolerance import assert_near


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_eigenvalues_descend_and_eigenvectors_are_orthonormal(dtype):
    a = torch.randn(3, 5, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    matrix = a + a.mH
    eigenvalues, eigenvectors = decompose(matrix)
    assert eigenvalues.dtype == dtype.to_real() and eigenvectors.dtype == dtype
    assert (eigenvalues[..., :-1] >= eigenvalues[..., 1:]).all()
    assert_near((eigenvectors * eigenvalues.unsqueeze(-2)) @ eigenvectors.mH, matrix, terms=25)
    assert_near(eigenvectors.mH @ eigenvectors, torch.eye(5, dtype=dtype).expand(3, 5, 5), terms=25)


class Decompositions(TorchDispatchMode):
    """Notes the dtypes of what is decomposed."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.overloadpacket.__name__ == "_linalg_eigh":
            self.dtypes.append(args[0].dtype)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("device", "dtype", "taken"),
    [
        ("cuda", torch.complex64, torch.complex128),
        ("cuda", torch.float32, torch.float32),
        ("cpu", torch.complex64, torch.complex64),
    ],
)
def test_complex64_is_decomposed_in_complex128_on_cuda(device, dtype, taken):
    """On a device that is only pretended: values and vectors come back in the precision that went in."""
    with FakeTensorMode(), Decompositions() as decompositions:
        eigenvalues, eigenvectors = decompose(torch.empty(2, 3, 3, dtype=dtype, device=device))
    assert decompositions.dtypes == [taken]
    assert eigenvalues.dtype == dtype.to_real() and eigenvectors.dtype == dtype
