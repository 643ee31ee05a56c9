"""Reference computations for the benchmarks: plain algorithms, written from their definitions, and rooflines."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from spectral_repro.benchmarks.clock import Job


def looped_whitening(x: Tensor, group_size: int, iterations: int = 19, eps: float = 1e-4) -> Tensor:
    """ZCA whitening by SVD-PI as wang2019 describes it, with loops over the groups and over the eigenvectors of a group.

    Power iterations start at an eigenvector and leave it unchanged, so they matter to its gradient alone. The eigenvector is
    then subtracted from the matrix (deflation).
    """
    outputs, identity = [], torch.eye(group_size, dtype=x.dtype, device=x.device)
    for group in x.split(group_size, 1):
        rows = group.transpose(0, 1).reshape(group_size, -1)
        centred = rows - rows.mean(1, keepdim=True)
        remainder = centred @ centred.mT / centred.shape[1] + eps * identity
        vectors, whitening = torch.linalg.eigh(remainder.detach()).eigenvectors.flip(1), torch.zeros_like(remainder)
        for index in range(group_size):
            vector = PowerIterations.apply(remainder, vectors[:, index : index + 1], iterations)
            projector = vector @ vector.mT
            eigenvalue = vector.mT @ remainder @ vector
            whitening = whitening + projector * eigenvalue.rsqrt()
            remainder = remainder - eigenvalue * projector
        outputs.append((whitening @ centred).view(group_size, len(x), *x.shape[2:]).transpose(0, 1))
    return torch.cat(outputs, 1)


class PowerIterations(torch.autograd.Function):
    """Power iterations v <- M v / |M v| that start at an eigenvector, and so leave it unchanged, with the gradient of wang2019

    dL/dM = sum over k = 0 ... K of (M / |M v|)^k (I - v v^T) dL/dv v^T / |M v|.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, vector: Tensor, iterations: int) -> Tensor:
        ctx.save_for_backward(matrix, vector)
        ctx.iterations = iterations
        return vector.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        matrix, vector = ctx.saved_tensors
        size = torch.linalg.vector_norm(matrix @ vector)
        term = total = gradient - vector @ (vector.mT @ gradient)
        for _ in range(ctx.iterations):
            term = matrix @ term / size
            total = total + term
        return total @ vector.mT / size, None, None


def whitening_roofline(shape: tuple[int, ...], group_size: int, device: torch.device) -> Job:
    """The operations that any whitening layer needs: two products and a decomposition forward, three products backward.

    The images have the layout that is best for the products, (groups, d, positions).
    """
    x = torch.randn(shape[1] // group_size, group_size, shape[0] * shape[2] * shape[3], device=device)
    grad_output = torch.randn_like(x)

    def forward() -> Callable[[], object]:
        _, matrix = torch.linalg.eigh(x @ x.mT)
        result = matrix @ x
        return lambda: (result, grad_output @ x.mT, torch.baddbmm(matrix @ grad_output, matrix, x))

    return forward


def svd_pooling(features: Tensor) -> Tensor:
    """The square root of the covariance (N, C, C) of features (N, C, P) by an SVD of the whole in float64, and autograd."""
    features = features.double()
    centred = features - features.mean(-1, keepdim=True)
    covariance = centred @ centred.mT / features.shape[-1]
    vectors, values, _ = torch.linalg.svd(covariance)
    return (vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT


def step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    dtype: torch.dtype = torch.float32,
) -> None:
    """A bare training step; its forward pass runs under autocast unless ``dtype`` is float32."""
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        loss = cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def whole(run: Callable[[], object]) -> Job:
    """A job without a backward pass of its own."""

    def forward() -> Callable[[], None]:
        run()
        return lambda: None

    return forward
