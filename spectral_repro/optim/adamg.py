"""Adam-G: Adam on the sphere (cho2017)."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from spectral_repro.linalg.sphere import advance_, length
from spectral_repro.optim.grassmann import Grassmann, blocks, descent, within_rows
from spectral_repro.optim.mixed import BELOW_ONE, POSITIVE


class AdamG(Grassmann):
    """Adam-G (cho2017): for every row y of a weight on the sphere, with tangent gradient h, in step k and with b = momentum,

        m <- b m + (1 - b) h,   v <- beta2 v + (1 - beta2) |h|^2, one number for the row,
        d = -lr sqrt(1 - beta2^k) / (1 - b^k) m / sqrt(v + eps),
        y <- cos(t) y + sin(t) d / t with t = |d|,   m carried along d in parallel.

    Groups without ``grassmann`` are optimised by SGD with Nesterov momentum. See `Grassmann` for the rest.

    Args:
        params: parameters, named parameters, or groups of either with values of their own for any of the following.
        lr: learning rate, >= 0.
        momentum: of the first moment on the sphere, and of SGD elsewhere; in [0, 1).
        beta2: of the second moment, in [0, 1).
        eps: added to the second moment, > 0.
        weight_decay: >= 0, of groups that are not on the sphere.
        grassmann: whether the group is on the sphere. Its weights (C_out, ...) are real.
        omega: weight of the orthogonality regulariser, >= 0, on the sphere.
        grad_clip: greatest length of a row's gradient, > 0, on the sphere; None does not clip.
        reset_on_lr_change: reset momentum and moments in every step whose learning rate differs from that of the step before,
            as the authors' PyTorch code does by making a new optimiser.

    Raises:
        TypeError, ValueError: see `Grassmann`.

    Example:
        >>> convolution, classifier = nn.Conv2d(64, 32, 3), nn.Linear(32, 10)
        >>> sphere = {"params": [convolution.weight], "grassmann": True, "lr": 0.05}
        >>> optimizer = AdamG([sphere, {"params": classifier.parameters()}], lr=0.01)
    """

    ranges = Grassmann.ranges | {"beta2": BELOW_ONE, "eps": POSITIVE}

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.05,
        momentum: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        grassmann: bool = False,
        omega: float = 0.1,
        grad_clip: float | None = 0.1,
        reset_on_lr_change: bool = False,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "beta2": beta2,
            "eps": eps,
            "weight_decay": weight_decay,
            "grassmann": grassmann,
            "omega": omega,
            "grad_clip": grad_clip,
            "reset_on_lr_change": reset_on_lr_change,
        }
        super().__init__(params, defaults)

    def start(self, point: Tensor) -> dict[str, Any]:
        second_moment = torch.zeros_like(length(point, within_rows(point)))
        return {"step": 0, "first_moment": torch.zeros_like(point), "second_moment": second_moment}

    def move(self, point: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        axes, beta1, beta2 = within_rows(point), group["momentum"], group["beta2"]
        state["step"] += 1
        rate = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        for y, g, m, v in blocks(point, gradient, state["first_moment"], state["second_moment"]):
            h, cut, size = descent(y, g, group["grad_clip"])
            m.mul_(beta1).addcmul_(h, cut, value=1 - beta1)
            v.lerp_(size.square(), 1 - beta2)
            advance_(y, m, -rate * (v + group["eps"]).rsqrt(), axes)
