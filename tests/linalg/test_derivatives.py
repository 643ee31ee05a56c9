"""Second derivatives, forward mode and torch.func of matrix functions and eigendecompositions."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from spectral_repro.linalg import eigh, expm, inverse_sqrtm, logm, matrix_function, powerm, sqrtm
from spectral_repro.linalg.backward import (
    AutogradSVD,
    Exact,
    Kernel,
    Lyapunov,
    NewtonSchulz,
    Pade,
    PlainSVD,
    PowerIteration,
    Taylor,
    TopN,
    Truncated,
    UnrolledPowerIteration,
)
from spectral_repro.linalg.functions import Exp, InverseSqrt, One, Product, Restricted, SpectralFunction, Sqrt
from spectral_repro.linalg.selection import Leading

# torch.func.jvp compiles some formulas of torch by torch.jit.script, which is deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")

FUNCTIONS = {
    "sqrtm": sqrtm,
    "inverse_sqrtm": lambda a: inverse_sqrtm(a, shift=0.1),
    "powerm": lambda a: powerm(a, 0.3),
    "logm": logm,
    "expm": lambda a: expm(a, rate=-0.5),
    "product": lambda a: matrix_function(a, Product(Sqrt(), Exp(-1.0)))[0],
    "projector": lambda a: matrix_function(a, Restricted(One(), Leading(1)))[0],
    "restricted": lambda a: matrix_function(a, Restricted(InverseSqrt(), Leading(1)))[0],
}
SPECTRA = {"separated": (4.0, 2.0, 0.7), "close": (3.001, 0.701, 0.7), "tied": (3.0, 0.7, 0.7), "identity": (2.0, 2.0, 2.0)}
APPROXIMATE = [PlainSVD(), Truncated(), TopN(2), Taylor(), Pade(), PowerIteration(), NewtonSchulz(), Lyapunov()]
BY_AUTOGRAD = [AutogradSVD(), NewtonSchulz(forward="newton_schulz")]
ONCE = [*APPROXIMATE, Lyapunov(forward="mpa"), UnrolledPowerIteration()]

each_approximation = pytest.mark.parametrize("method", ONCE, ids=str)
REFUSAL = r"^.* has no second derivative and no forward mode: use Exact\(\)$"


def symmetrised(function):
    return lambda a: function((a + a.mT) / 2)


@pytest.mark.parametrize(
    ("name", "spectrum"),
    [case for case in product(FUNCTIONS, SPECTRA) if case not in product(("projector", "restricted"), ("identity",))],
)  # a cut between equal eigenvalues has no derivative
def test_second_and_forward_derivatives_agree_with_finite_differences(name, spectrum, symmetric):
    matrix = torch.stack([symmetric(SPECTRA[spectrum], seed) for seed in (0, 1)]).requires_grad_()
    function = symmetrised(FUNCTIONS[name])
    assert gradgradcheck(function, (matrix,), check_fwd_over_rev=True)
    assert gradcheck(function, (matrix,), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)


def invariant(matrix: Tensor) -> Tensor:
    """A function of eigenvalues and eigenvectors that does not depend on the signs of the latter."""
    eigenvalues, eigenvectors = eigh(matrix)
    weights = torch.arange(9.0, dtype=matrix.dtype).view(3, 3).cos()
    return (weights * eigenvectors**2).sum((-2, -1)) + (weights[0] * eigenvalues**2).sum(-1)


def test_eigenvectors_have_second_and_forward_derivatives(symmetric):
    matrix = torch.stack([symmetric(SPECTRA["separated"], seed) for seed in (0, 1)]).requires_grad_()
    assert gradgradcheck(symmetrised(invariant), (matrix,), check_fwd_over_rev=True)
    assert gradcheck(symmetrised(invariant), (matrix,), check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("of", [lambda a: inverse_sqrtm(a).square().sum(), invariant], ids=["inverse_sqrtm", "eigh"])
def test_second_derivatives_by_all_ways_are_the_same(of, symmetric):
    matrix = symmetric(SPECTRA["separated"])
    expected = torch.autograd.functional.hessian(symmetrised(of), matrix)
    assert expected.abs().max() > 0.01
    for outer, inner in product((torch.func.jacfwd, torch.func.jacrev), repeat=2):
        if of is invariant and outer is inner is torch.func.jacfwd:
            with pytest.raises(
                NotImplementedError, match=r"^eigh in forward mode can be differentiated again in backward mode"
            ):
                outer(inner(symmetrised(of)))(matrix)
            continue
        torch.testing.assert_close(outer(inner(symmetrised(of)))(matrix), expected)


@pytest.mark.parametrize("method", [Exact(), *APPROXIMATE, *BY_AUTOGRAD, Lyapunov(forward="mpa")], ids=str)
def test_transforms_of_torch_give_the_gradient_of_every_method(method, symmetric):
    matrices = torch.stack([symmetric(SPECTRA["separated"], seed) for seed in (0, 1)])

    def of(matrix):
        return inverse_sqrtm(matrix, method, shift=0.1).square().sum()

    leaf = matrices.clone().requires_grad_()
    (expected,) = torch.autograd.grad(of(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(of)(matrices), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(of))(matrices), expected)
    torch.testing.assert_close(torch.func.vmap(of)(matrices).sum(), of(matrices))
    jacobian = torch.func.jacrev(lambda matrix: inverse_sqrtm(matrix, method, shift=0.1))(matrices[0])
    grad_output = 2 * inverse_sqrtm(matrices[0], method, shift=0.1)
    torch.testing.assert_close(torch.einsum("ij,ijkl->kl", grad_output, jacobian), expected[0])


def test_forward_mode_over_forward_mode_needs_no_gradient_mode(symmetric):
    matrix, of = symmetric(SPECTRA["separated"]), symmetrised(lambda a: inverse_sqrtm(a).square().sum())
    with torch.no_grad():
        found = torch.func.jacfwd(torch.func.jacfwd(of))(matrix)
    torch.testing.assert_close(found, torch.autograd.functional.hessian(of, matrix))


def test_power_iteration_takes_transforms_that_say_what_is_random(symmetric):
    matrices, of = torch.stack([symmetric(SPECTRA["separated"])] * 2), lambda a: sqrtm(a, UnrolledPowerIteration(), 0.1).sum()
    gradients = torch.func.vmap(torch.func.grad(of), randomness="same")(matrices)
    assert torch.equal(gradients[0], gradients[1]) and gradients.abs().max() > 0


@each_approximation
def test_an_approximate_gradient_refuses_to_be_differentiated(method, symmetric):
    """A gradient that counts as a constant would give second derivatives of zero, without a word."""
    matrix = symmetric(SPECTRA["separated"]).requires_grad_()
    (gradient,) = torch.autograd.grad(sqrtm(matrix, method, 0.1).square().sum(), matrix, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(NotImplementedError, match=REFUSAL):
        gradient.sum().backward()
    with pytest.raises(NotImplementedError, match=REFUSAL):
        torch.func.jvp(lambda a: sqrtm(a, method, 0.1), (matrix.detach(),), (matrix.detach(),))


@pytest.mark.parametrize("method", [Truncated(), Taylor(), TopN(2)], ids=str)
def test_an_approximate_gradient_of_eigenvectors_refuses_to_be_differentiated(method, symmetric):
    matrix = symmetric(SPECTRA["separated"]).requires_grad_()
    eigenvalues, eigenvectors = eigh(matrix, method)
    loss = eigenvectors.pow(4).sum() + eigenvalues.square().sum()
    (gradient,) = torch.autograd.grad(loss, matrix, create_graph=True)
    with pytest.raises(NotImplementedError, match=REFUSAL):
        gradient.sum().backward()


def test_a_third_derivative_is_refused(symmetric):
    matrix = symmetric(SPECTRA["separated"]).requires_grad_()
    (first,) = torch.autograd.grad(sqrtm(matrix).square().sum() + sqrtm(matrix).sum(), matrix, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), matrix, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"^a matrix function has no third derivatives$"):
        second.sum().backward()


@pytest.mark.parametrize("method", BY_AUTOGRAD, ids=str)
def test_steps_differentiated_by_autograd_have_second_derivatives(method, symmetric):
    matrix = symmetric(SPECTRA["separated"]).requires_grad_()
    assert gradgradcheck(symmetrised(lambda a: sqrtm(a, method)), (matrix,))


class Halved(Kernel):
    """A method of one's own."""

    def kernel(self, function, eigenvalues):
        return function.divided_differences(eigenvalues) / 2


def test_a_method_of_ones_own_is_one_class_with_a_kernel(symmetric, random_gradient, matrix_gradient):
    matrix, grad_output = symmetric(SPECTRA["separated"]), random_gradient(3)
    half = matrix_gradient(matrix, Sqrt(), Halved(), grad_output)
    torch.testing.assert_close(2 * half, matrix_gradient(matrix, Sqrt(), Exact(), grad_output))


class Square(SpectralFunction):
    """A function of one's own, with a gradient and no more."""

    def __call__(self, eigenvalues):
        return eigenvalues**2

    def derivative(self, eigenvalues):
        return 2 * eigenvalues

    def divided_differences(self, eigenvalues):
        return eigenvalues.unsqueeze(-1) + eigenvalues.unsqueeze(-2)


def test_a_function_of_ones_own_has_a_gradient_and_says_what_it_lacks(symmetric):
    matrix = symmetric(SPECTRA["separated"]).requires_grad_()
    assert gradcheck(symmetrised(lambda a: matrix_function(a, Square())[0]), (matrix,))
    (gradient,) = torch.autograd.grad(matrix_function(matrix, Square())[0].sum(), matrix, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"Square.* has no second derivative: it defines no second_divided_diff"):
        gradient.sum().backward()


class Products(TorchDispatchMode):
    """Counts the products of matrices."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation.overloadpacket.__name__ in ("mm", "bmm")
        return operation(*args, **(kwargs or {}))


def test_a_second_derivative_costs_less_where_the_incoming_gradient_is_frozen(symmetric, random_gradient):
    matrix, counts = symmetric(SPECTRA["separated"]).requires_grad_(), {}
    for learned in (True, False):
        grad_output = random_gradient(3).requires_grad_(learned)
        (gradient,) = torch.autograd.grad(sqrtm(matrix), matrix, grad_output, create_graph=True)
        with Products() as products:
            gradient.sum().backward()
        counts[learned] = products.count
    assert counts[False] < counts[True]
