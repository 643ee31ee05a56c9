"""Initial weights of a network: random ones, the identity, whitened patches.

An initialisation is called with the network, which it changes in place, and a function that returns the first ``number``
training images as the training will see them, (number, C, H, W).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold
from torch.nn.utils.parametrize import is_parametrized

from spectral_repro.bounds import Count, Positive
from spectral_repro.linalg import eigh
from spectral_repro.linalg.conv_padding import MODES, pad_widths

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
def dirac(model: nn.Module, first_images: FirstImages) -> None:
    """Convolutions whose first outputs are their inputs: the identity on as many channels as both have. The kernels of further
    outputs, and all other layers, keep their weights (Jordan 2024, airbench). Groups are convolutions of their own.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and is_trained(layer):
            for kernels in layer.weight.unflatten(0, (layer.groups, -1)):
                nn.init.dirac_(kernels[: kernels.shape[1]])


def patches_seen(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    """The patches of images (N, C, H, W) that a convolution is applied to: (N, C k k, P) at P positions."""
    kernel_size, dilation = convolution.kernel_size, convolution.dilation
    widths = pad_widths(convolution.padding, kernel_size, dilation)  # type: ignore[arg-type]
    return unfold(pad(images, widths, MODES[convolution.padding_mode]), kernel_size, dilation, 0, convolution.stride)


def settable_weight(layer: nn.Module) -> Tensor:
    """The weight of a layer.

    Raises:
        ValueError: for one that is computed from others.
    """
    if is_parametrized(layer, "weight"):
        raise ValueError(f"{layer}: its weight is parametrized and cannot be set; initialise it before the parametrization")
    weight: Any = layer.weight
    return weight


def is_trained(layer: nn.Module) -> bool:
    """Whether an initialisation sets the `settable_weight` of a layer; frozen weights stay."""
    return settable_weight(layer).requires_grad


@torch.no_grad()
def patches(
    model: nn.Module,
    first_images: FirstImages,
    *,
    images: Count = 5000,
    eps: Positive = 5e-4,
    others: Initialisation | None = None,
) -> None:
    """The first convolution from whitened patches of the training images (Jordan 2024, airbench).

    With eigenvalues lambda_i, in descending order, and eigenvectors v_i of the covariance of the patches (C k k numbers each)
    that the convolution sees, its kernels are v_i / sqrt(lambda_i + eps) for i = 1, ..., C_out / 2, and then their negatives.
    Its bias stays.

    Args:
        model: whose first convolution has an even number of output channels, 2 C k k at most.
        images: number of training images for the patches.
        eps: added to the eigenvalues.
        others: initialisation of the other layers, applied afterwards; a frozen first convolution keeps its patches.
            None: they keep their weights.

    Raises:
        ValueError: if there is no such convolution.

    Example:
        >>> patches(network, lambda number: training_images[:number], others=dirac)
    """
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.groups > 1 or len(first.weight) % 2 or len(first.weight) > 2 * first.weight[0].numel():
        found = f"{first.weight[0].numel()} inputs and {len(first.weight)} outputs" if first is not None else "none"
        raise ValueError(
            "patches: the network's first convolution must have an even number of output channels, at most twice the numbers "
            f"of a patch (found: {found}); model=airbench has one"
        )
    seen = patches_seen(first, first_images(images))  # (N, C k k, P)
    centred = seen - seen.mean((0, 2))[:, None]
    covariance = (centred @ centred.mT).mean(0, dtype=torch.float64) / seen.shape[-1]
    eigenvalues, eigenvectors = eigh(covariance)
    kernels = (eigenvectors / (eigenvalues + eps).sqrt()).mT[: len(first.weight) // 2]
    settable_weight(first).copy_(torch.cat([kernels, -kernels]).view_as(first.weight))
    if others is not None:
        others(model, first_images)


@torch.no_grad()
def _draw(model: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """Draws weights of trained convolutions and linear layers on the CPU, so that they are the same on every device."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and is_trained(layer):
            layer.weight.copy_(draw(torch.empty(layer.weight.shape)))
            if layer.bias is not None:
                layer.bias.zero_()
