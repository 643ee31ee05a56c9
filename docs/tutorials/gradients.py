# %% [markdown]
# # Comparing gradients of the eigendecomposition
#
# Whitening needs the inverse square root of a covariance, and its gradient goes through an eigendecomposition. The textbook
# gradient divides by the gaps between eigenvalues. This tutorial moves two eigenvalues towards each other and measures the
# error of six gradient methods. It takes a few seconds.

# %% tags=["parameters"]
MATRICES = 50
GAPS = 25

# %%
import matplotlib.pyplot as plt
import torch

from spectral_repro.linalg import inverse_sqrtm
from spectral_repro.linalg.backward import Exact, NewtonSchulz, PlainSVD, PowerIteration, Taylor, Truncated

# %% [markdown]
# For a matrix $A = V \Lambda V^\top$ that we make from its eigenvectors and eigenvalues, the true gradient is known without a
# decomposition. With an incoming gradient $G$ it is
#
# $$V \left( D \circ (V^\top G V) \right) V^\top , \qquad
# D_{ij} = -\frac{1}{\sqrt{\lambda_i \lambda_j} (\sqrt{\lambda_i} + \sqrt{\lambda_j})} .$$
#
# No gap occurs in it: nothing bad happens when two eigenvalues are equal. We compute it in float64.

# %%
SIZE = 16


def make_matrices(gap):
    """Covariances with eigenvalues from 1 to 0.1, the first two of which differ by `gap`."""
    eigenvalues = torch.logspace(0, -1, SIZE, dtype=torch.float64)
    eigenvalues[1] = eigenvalues[0] * (1 - gap)
    eigenvectors = torch.linalg.qr(torch.randn(MATRICES, SIZE, SIZE, dtype=torch.float64)).Q
    return eigenvalues, eigenvectors, eigenvectors * eigenvalues @ eigenvectors.mT


def true_gradient(eigenvalues, eigenvectors, incoming):
    roots = eigenvalues.sqrt()
    kernel = -1 / (roots[:, None] * roots * (roots[:, None] + roots))
    return eigenvectors @ (kernel * (eigenvectors.mT @ incoming @ eigenvectors)) @ eigenvectors.mT


def gradient(matrix, incoming, method):
    matrix = matrix.clone().requires_grad_()
    root = inverse_sqrtm(matrix, backward=method)
    return torch.autograd.grad(root, matrix, incoming)[0]


# %% [markdown]
# Every layer with a decomposition takes the method as `backward=`. The forward pass is the same for all of these. We decompose
# in float32, as most published code does. The incoming gradient $G = v_1 v_2^\top + v_2 v_1^\top$ mixes the two eigenvectors
# that belong to the close pair, so the error is that of their part of the gradient.

# %%
methods = {
    "Exact()": Exact(),
    "PlainSVD()": PlainSVD(),
    "Truncated(1e3)": Truncated(1e3),
    "Taylor(100)": Taylor(100),
    "PowerIteration(19)": PowerIteration(19),
    "NewtonSchulz(15)": NewtonSchulz(15),
}
torch.manual_seed(0)
gaps = torch.logspace(0, -8, GAPS).mul(0.5).tolist()
errors = {name: [] for name in methods}
for gap in gaps:
    eigenvalues, eigenvectors, matrices = make_matrices(gap)
    incoming = eigenvectors[..., :1] * eigenvectors[:, None, :, 1]
    incoming = incoming + incoming.mT
    truth = true_gradient(eigenvalues, eigenvectors, incoming)
    for name, method in methods.items():
        found = gradient(matrices.float(), incoming.float(), method).double()
        error = torch.linalg.matrix_norm(found - truth) / torch.linalg.matrix_norm(truth)
        errors[name].append(error.nan_to_num(torch.inf).median().item())

for name, values in errors.items():
    wide, close = (values[min(range(GAPS), key=lambda index: abs(gaps[index] - gap))] for gap in (0.1, 1e-6))
    print(f"{name:<20} error {wide:.0e} at a gap of 10 %, {close:.0e} at a gap of 1e-6")

# %%
figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained", label="Error of each gradient by the gap")
for (name, values), style in zip(errors.items(), ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))), strict=True):
    axes.loglog(gaps, values, linestyle=style, linewidth=4 if name == "Exact()" else 2, label=name)
axes.invert_xaxis()
axes.set(xlabel="relative gap of two eigenvalues (closer to the right)", ylabel="relative error of the gradient")
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# `Exact()` computes the quotient $(f(\lambda_i) - f(\lambda_j)) / (\lambda_i - \lambda_j)$ without a subtraction: its error is
# that of rounding, at every gap. `PlainSVD()` loses a digit whenever the gap shrinks by ten. `Truncated`, `Taylor` and
# `PowerIteration` stay bounded, but their gradient for a close pair is wrong: a relative error of 1 is that of no gradient at
# all. `NewtonSchulz` does not divide by gaps either, and its line lies on that of `Exact()`.
#
# With two equal eigenvalues the textbook gradient is not finite.

# %%
eigenvalues, eigenvectors, _ = make_matrices(0.0)
diagonal = torch.diag(eigenvalues).float()
incoming = torch.ones(SIZE, SIZE)
for name, method in methods.items():
    length = gradient(diagonal, incoming, method).norm().item()
    print(f"{name:<20} length of the gradient at a tie: {length:.3f}")
assert torch.isfinite(gradient(diagonal, incoming, Exact())).all()
assert not torch.isfinite(gradient(diagonal, incoming, PlainSVD())).all()

# %% [markdown]
# [Which gradient should I use?](../which_gradient.md) has all twelve methods, their formulas and their times.
