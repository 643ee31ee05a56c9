"""Networks with other convolutions in them, and back."""

import copy
from collections.abc import Callable

from torch import nn

from spectral_repro.layers.soc import SOC
from spectral_repro.layers.tt import TTConv2d


def convert(model: nn.Module, layer: Callable[..., nn.Module], keep_first: bool = False, **options: object) -> nn.Module:
    """Replaces every `nn.Conv2d` of a network by another layer with weights of its own, in place.

    Args:
        layer: makes it, like `TTConv2d`, from the first arguments of `nn.Conv2d` as far as bias, and ``options``.
        keep_first: leave the first convolution as it is.

    Returns:
        the network.

    Raises:
        ValueError: for a convolution with groups, dilation or padding other than zeros, which these layers do not have, and
            as the layer.
    """
    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    for name, conv in convolutions[keep_first:]:
        if conv.groups > 1 or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
            raise ValueError(f"{name} is {conv}: groups, dilation and padding other than zeros cannot be converted")
        made = layer(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            bias=conv.bias is not None,
            **options,
        )
        _replace(model, name, made.to(conv.weight.device, conv.weight.dtype).train(conv.training))
    return model


def export(model: nn.Module) -> nn.Module:
    """A copy with an `nn.Conv2d` in the place of every TT layer: the same outputs, and the names of before `convert`.

    Raises:
        ValueError: for a network with skew orthogonal convolutions: near the border they are not one convolution.
    """
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, SOC):
            raise ValueError(f"{name} is a series of convolutions with a border each, which no single nn.Conv2d equals")
        if isinstance(module, TTConv2d):
            _replace(plain, name, module.to_conv2d())
    return plain


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
