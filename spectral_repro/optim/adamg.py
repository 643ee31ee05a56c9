"""Adam-G: Adam on the sphere (cho2017)."""

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from spectral_repro.linalg.sphere import advance_, length
from spectral_repro.optim.grassmann import Grassmann, blocks, descent, within_rows


class AdamG(Grassmann):
    """On the sphere, for every row y with tangent gradient h, in step k and with b = momentum,

        m <- b m + (1 - b) h,   v <- beta2 v + (1 - beta2) |h|^2, one number for the row,
        d = -lr sqrt(1 - beta2^k) / (1 - b^k) m / sqrt(v + eps),
        y <- cos(t) y + sin(t) d / t with t = |d|,   m carried along d.

    The rest, arguments and errors: see `Grassmann`.

    Args:
        beta2: in [0, 1).
        eps: > 0.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.05,
        momentum: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-8,
        **options: object,
    ):
        if not 0 <= beta2 < 1:
            raise ValueError(f"beta2={beta2}: must be in [0, 1)")
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be > 0")
        super().__init__(params, lr, momentum, **options, own={"beta2": beta2, "eps": eps})

    def start(self, point: Tensor) -> dict[str, object]:
        second_moment = torch.zeros_like(length(point, within_rows(point)))
        return {"step": 0, "first_moment": torch.zeros_like(point), "second_moment": second_moment}

    def move(self, point: Tensor, gradient: Tensor, state: dict[str, object], group: dict[str, object]) -> None:
        axes, beta1, beta2 = within_rows(point), group["momentum"], group["beta2"]
        state["step"] += 1
        rate = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        for y, g, m, v in blocks(point, gradient, state["first_moment"], state["second_moment"]):
            h, size, cut = descent(y, g, group["grad_clip"])
            m.mul_(beta1).addcmul_(h, cut, value=1 - beta1)
            v.lerp_((cut * size).square(), 1 - beta2)
            advance_(y, m, -rate * (v + group["eps"]).rsqrt(), axes)
