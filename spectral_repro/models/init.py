"""Random initial weights of a network.

They, and all that a network can start from, are called with the network, which they change in place, and a function of a
number: that many training images, the first ones as the training will see them, (number, C, H, W).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

FirstImages = Callable[[int], Tensor]
Initialisation = Callable[[nn.Module, FirstImages], None]
RELU_GAIN = math.sqrt(2)


def xavier(model: nn.Module, first_images: FirstImages) -> None:
    """Weights uniform with variance 4 / (fan in + fan out), biases 0 (Glorot and Bengio 2010, with the gain of ReLU)."""
    _draw(model, partial(nn.init.xavier_uniform_, gain=RELU_GAIN))


def kaiming(model: nn.Module, first_images: FirstImages) -> None:
    """Weights normal with variance 2 / fan in, biases 0 (He et al. 2015)."""
    _draw(model, partial(nn.init.kaiming_normal_, nonlinearity="relu"))


def orthogonal(model: nn.Module, first_images: FirstImages) -> None:
    """Weights as matrices (out, fan in) with orthogonal rows or columns of length sqrt(2), biases 0 (Saxe et al. 2014)."""
    _draw(model, partial(nn.init.orthogonal_, gain=RELU_GAIN))


@torch.no_grad()
def _draw(model: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """New weights for convolutions and linear layers, drawn on the CPU and so the same on every device."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.copy_(draw(torch.empty(layer.weight.shape)))
            if layer.bias is not None:
                layer.bias.zero_()
