"""A norm layer, a backward method and an optimiser of one's own."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn

from spectral_repro.linalg import inverse_sqrtm
from spectral_repro.linalg.backward import Backward, Exact, PlainSVD


class RidgeWhitening(nn.Module):
    """y = (C + r m I)^(-1/2) (x - mean), with C the covariance of all channels and m the mean of its eigenvalues.

    In evaluation mean and covariance are running averages.

    Args:
        num_features: channels of the input.
        ridge: r, in relation to the mean eigenvalue.
        momentum: weight of the newest batch in the running averages.
        backward: the gradient through the eigendecomposition.
    """

    def __init__(
        self,
        num_features: int,
        ridge: Annotated[float, Gt(0)] = 0.01,
        momentum: Annotated[float, Interval(gt=0, le=1)] = 0.1,
        backward: Backward = Exact(),
    ):
        super().__init__()
        self.ridge, self.momentum, self.backward_method = ridge, momentum, backward
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("covariance", torch.eye(num_features))

    def forward(self, x: Tensor) -> Tensor:
        channels = x.movedim(1, -1).flatten(0, -2)
        if self.training:
            mean, covariance = channels.mean(0), channels.T.cov(correction=0)
            self.mean.lerp_(mean.detach(), self.momentum)
            self.covariance.lerp_(covariance.detach(), self.momentum)
        else:
            mean, covariance = self.mean, self.covariance
        shift = self.ridge * covariance.diagonal().mean() * torch.eye(len(covariance), device=x.device)
        whitening = inverse_sqrtm((covariance + shift).double(), backward=self.backward_method).to(x.dtype)
        return ((channels - mean) @ whitening).unflatten(0, (len(x), *x.shape[2:])).movedim(-1, 1)


@dataclass(frozen=True)
class Damped(PlainSVD):
    """g / (g^2 + width^2) in the place of 1 / g for the gap g of two eigenvalues: 0 at a tie, at most 1 / (2 width)."""

    width: Annotated[float, Gt(0)] = 1e-3

    def reciprocal_gaps(self, eigenvalues: Tensor) -> Tensor:
        gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
        return gaps / (gaps.square() + self.width**2)


class SignSGD(torch.optim.Optimizer):
    """w <- w - lr sign(g) - lr weight_decay w."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: Annotated[float, Gt(0)] = 1e-3,
        weight_decay: Annotated[float, Interval(ge=0)] = 0.0,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(parameter.grad.sign(), alpha=group["lr"])
