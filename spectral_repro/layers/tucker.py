"""Convolutions on a few channels between two 1 x 1 convolutions: the Tucker-2 decomposition of senderovich2022."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.checks import check_count


class Frame(nn.Conv2d):
    """A 1 x 1 convolution that starts with orthonormal rows, or columns where it has more output than input channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, out_channels, 1, bias=bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        orthogonal_(self.weight)

    @property
    def matrix(self) -> Tensor:
        """(out_channels, in_channels)."""
        return self.weight[:, :, 0, 0]


class Tucker(nn.Sequential):
    """``reduction`` from in_channels to r_1, ``core`` from r_1 to r_2, ``expansion`` from r_2 to out_channels.

    While the frames, ``reduction`` and ``expansion``, are orthonormal, the singular values are those of the core, and zeros. If
    r_1 = in_channels and r_2 = out_channels, there is only the core.

    Args:
        core: makes the core, called with its input channels, its output channels and ``bias``.
        in_channels, out_channels: of the whole.
        bias: whether the last of the three has a bias.
        rank: r_1 = min(in_channels, rank), r_2 = min(out_channels, rank).
        scale: instead of the rank; r_1 = scale in_channels, r_2 = scale out_channels, rounded down to 1 at least.
        device, dtype: of the frames.

    Raises:
        ValueError: unless exactly one of ``rank`` and ``scale`` is given, and in range.

    Example:
        >>> isinstance(TTConv2d(16, 32, 3, rank=4), Tucker)
        True
    """

    core: Any  # a convolution: nn.Conv2d or SOC
    reduction: Frame
    expansion: Frame

    def __init__(
        self,
        core: Callable[..., nn.Module],
        in_channels: int,
        out_channels: int,
        bias: bool,
        rank: int | None,
        scale: float | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        check_count("in_channels", in_channels)
        check_count("out_channels", out_channels)
        inner, outer = tucker_ranks(in_channels, out_channels, rank, scale)
        framed = (inner, outer) != (in_channels, out_channels)
        parts = OrderedDict(core=core(inner, outer, bias=bias and not framed))
        if framed:
            reduction = Frame(in_channels, inner, False, device, dtype)
            parts = OrderedDict(reduction=reduction, **parts, expansion=Frame(outer, out_channels, bias, device, dtype))
        super().__init__(parts)
        self.in_channels, self.out_channels, self.framed = in_channels, out_channels, framed

    def reset_parameters(self) -> None:
        """Draws all weights and biases again."""
        parts: list[Any] = list(self)
        for part in parts:
            part.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """(out_channels,), that of the last of the three."""
        last = self.expansion if self.framed else self.core
        bias: Tensor | None = last.bias
        return bias

    @property
    def frames(self) -> list[Tensor]:
        """K_1^T (r_1, in_channels) and K_3 (r_2, out_channels), whose rows should be orthonormal; empty without frames."""
        return [self.reduction.matrix, self.expansion.matrix.mT] if self.framed else []


def orthogonal_penalty(model: nn.Module) -> Tensor:
    """sum (|K_1^T K_1 - I|_F^2 + |K_3 K_3^T - I|_F^2) / sum 2 r_2^2 over the Tucker layers with frames; 0 if there is none.

    A scalar tensor, computed outside autocast; frames of equal shape are batched.

    Args:
        model: a network.

    Returns:
        A tensor of one number, 0 for a network without such layers.

    Example:
        >>> network = nn.Sequential(TTConv2d(16, 32, 3, rank=4), nn.ReLU(), TTConv2d(32, 32, 3, rank=4))
        >>> orthogonal_penalty(network) < 1e-6  # frames start orthonormal
        tensor(True)
    """
    layers = [module for module in model.modules() if isinstance(module, Tucker) and module.framed]
    by_shape = defaultdict(list)
    for frame in (frame for layer in layers for frame in layer.frames):
        by_shape[frame.shape].append(frame)
    parameter = next(model.parameters(), torch.empty(0))
    total = parameter.new_zeros(())
    with full_precision(total.device):
        for frames in map(torch.stack, by_shape.values()):
            identity = torch.eye(frames.shape[1], dtype=frames.dtype, device=frames.device)
            total = total + (frames @ frames.mT - identity).square().sum()
    return total / max(1, sum(2 * int(layer.core.out_channels) ** 2 for layer in layers))


def tucker_ranks(in_channels: int, out_channels: int, rank: int | None, scale: float | None) -> tuple[int, int]:
    """r_1 and r_2 from a rank, or from a scale, as `Tucker` says.

    Raises:
        ValueError: unless exactly one of them is given, and in range.
    """
    if rank is not None and scale is None:
        check_count("rank", rank)
        return min(in_channels, int(rank)), min(out_channels, int(rank))
    if scale is not None and rank is None:
        if not 0 < scale <= 1:
            raise ValueError(f"scale={scale}: must be > 0 and <= 1")
        return max(1, int(scale * in_channels)), max(1, int(scale * out_channels))
    raise ValueError(f"rank={rank} and scale={scale}: one of them must be set, and the other one None (null)")


@torch.no_grad()
def orthogonal_(weight: Tensor) -> None:
    """Fills a weight (n, ...) with a matrix of n orthonormal rows, or of orthonormal columns if these are fewer."""
    dtype = torch.promote_types(weight.dtype, torch.float32)  # half precision has no QR decomposition
    weight.copy_(nn.init.orthogonal_(torch.empty(weight.shape, dtype=dtype, device=weight.device)))
