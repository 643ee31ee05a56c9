"""An activation that keeps the norm of its gradient."""

import torch
from torch import Tensor, nn


class MinMax(nn.Module):
    """(min(a, b), max(a, b)) of the two halves a and b of the channels (Anil et al. 2019), (N, C, H, W) to the same.

    It permutes the channels of each position, so it is 1-Lipschitz and its gradient has the norm of the incoming one.

    Raises:
        ValueError: for an odd number of channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % 2:
            raise ValueError(f"expected an even number of channels, got {tuple(x.shape)}")
        first, second = x.chunk(2, 1)
        swap = first > second
        return torch.cat([torch.where(swap, second, first), torch.where(swap, first, second)], 1)
