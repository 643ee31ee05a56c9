"""SGD-G: gradient descent with momentum on the sphere (cho2017)."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from spectral_repro.linalg.sphere import advance_
from spectral_repro.optim.grassmann import Grassmann, blocks, descent, within_rows
from spectral_repro.optim.mixed import with_momentum


class SGDG(Grassmann):
    """SGD-G (cho2017): for every row y of a weight on the sphere, with tangent gradient h,

        m <- momentum m - lr h,   y <- cos(t) y + sin(t) m / t with t = |m|,   m carried along in parallel.

    Groups without ``grassmann`` are optimised by SGD with Nesterov momentum. See `Grassmann` for the rest.

    Args:
        params: parameters, named parameters, or groups of either with values of their own for any of the following.
        lr: learning rate, >= 0.
        momentum: in [0, 1).
        weight_decay: >= 0, of groups that are not on the sphere.
        grassmann: whether the group is on the sphere. Its weights (C_out, ...) are real.
        omega: weight of the orthogonality regulariser, >= 0, on the sphere.
        grad_clip: greatest length of a row's gradient, > 0, on the sphere; None does not clip.
        reset_on_lr_change: reset the momentum in every step whose learning rate differs from that of the step before, as the
            authors' PyTorch code does by making a new optimiser. With a schedule that changes it in every step there is then no
            momentum.

    Raises:
        TypeError, ValueError: see `Grassmann`.

    Example:
        >>> convolution, classifier = nn.Conv2d(64, 32, 3), nn.Linear(32, 10)
        >>> sphere = {"params": [("conv.weight", convolution.weight)], "grassmann": True, "lr": 0.2}
        >>> optimizer = SGDG([sphere, {"params": classifier.named_parameters()}], lr=0.01)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        grassmann: bool = False,
        omega: float = 0.1,
        grad_clip: float | None = 0.1,
        reset_on_lr_change: bool = False,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "grassmann": grassmann,
            "omega": omega,
            "grad_clip": grad_clip,
            "reset_on_lr_change": reset_on_lr_change,
        }
        super().__init__(params, defaults)

    def start(self, point: Tensor) -> dict[str, Any]:
        return with_momentum(point)

    def move(self, point: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        axes = within_rows(point)
        for y, g, m in blocks(point, gradient, state["momentum_buffer"]):
            h, cut, _ = descent(y, g, group["grad_clip"])
            m.mul_(group["momentum"]).addcmul_(h, cut, value=-group["lr"])
            advance_(y, m, dim=axes)
