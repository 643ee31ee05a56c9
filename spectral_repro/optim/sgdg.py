"""SGD-G: gradient descent with momentum on the sphere (cho2017)."""

from torch import Tensor

from spectral_repro.linalg.sphere import advance_
from spectral_repro.optim.grassmann import Grassmann, blocks, descent, with_momentum, within_rows


class SGDG(Grassmann):
    """On the sphere, for every row y with tangent gradient h,

        m <- momentum m - lr h,   y <- cos(t) y + sin(t) m / t with t = |m|,   m carried along.

    The rest, arguments and errors: see `Grassmann`.
    """

    def start(self, point: Tensor) -> dict[str, object]:
        return with_momentum(point)

    def move(self, point: Tensor, gradient: Tensor, state: dict[str, object], group: dict[str, object]) -> None:
        axes = within_rows(point)
        for y, g, m in blocks(point, gradient, state["momentum_buffer"]):
            h, _, cut = descent(y, g, group["grad_clip"])
            m.mul_(group["momentum"]).addcmul_(h, cut, value=-group["lr"])
            advance_(y, m, dim=axes)
