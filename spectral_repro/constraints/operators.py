"""The convolutions and linear layers of a network as linear maps of what they are given."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from spectral_repro.layers import TTConv2d
from spectral_repro.linalg import conv_norm
from spectral_repro.linalg.conv_power import pad_widths, padding_norm


@dataclass(frozen=True)
class Operator:
    """A layer and the size of its input. A linear layer is a 1 x 1 convolution of one pixel."""

    name: str
    layer: nn.Conv2d | nn.Linear | TTConv2d
    size: tuple[int, int]

    @property
    def key(self) -> str:
        """Name and size: a layer whose inputs have several sizes is one operator for each of them."""
        return f"{self.name} {self.size[0]} x {self.size[1]}"

    @property
    def weight(self) -> Tensor:
        """(C_out, C_in / groups, K_1, K_2) without gradient; that of a convolution or linear layer may be changed in place."""
        weight = self.layer.weight.detach()
        return weight[:, :, None, None] if isinstance(self.layer, nn.Linear) else weight

    def random_input(self, generator: torch.Generator) -> Tensor:
        """(1, C_in, height, width), standard normal, with the dtype and the device of the weight."""
        channels = self.layer.in_features if isinstance(self.layer, nn.Linear) else self.layer.in_channels
        return torch.randn(1, channels, *self.size, generator=generator).to(self.weight)

    def norm(self) -> Tensor:
        """`conv_norm` of the ``circular`` operator times ``expansion``, a tensor of one number.

        Exact for circular padding that keeps the size; what senderovich2022 bounds for padding with zeros; an upper bound of
        the norm of the layer for padding with reflected or replicated pixels.
        """
        return conv_norm(self.weight, **self.circular) * self.expansion

    @property
    def circular(self) -> dict[str, object]:
        """What `conv_norm` takes beside the weight: a size that is a multiple of the stride, and the rest of the geometry.

        With zeros it is the size of the input, rounded up. Where the kernel is larger than the map, the padding is added: then
        the circular operator bounds that of the layer in any case, while on so few pixels it may fall short of it. Where the
        padding repeats pixels it is the size of the padded map.
        """
        if isinstance(self.layer, nn.Linear):
            return {"input_size": self.size}
        conv, size = self._conv, []
        for n, extent, pads, s in zip(self.size, self._extents, self._pads, conv.stride, strict=True):
            if self._repeats_pixels:
                n += sum(pads)
            elif conv.padding_mode == "zeros" and extent > n:
                n += max(pads)
            size.append(-(-n // s) * s)
        return {"input_size": tuple(size), "stride": conv.stride, "groups": conv.groups, "dilation": conv.dilation}

    @property
    def expansion(self) -> float:
        """The norm of the padding where it repeats pixels, else 1: the layer is the padding and then a convolution."""
        if not self._repeats_pixels:
            return 1.0
        mode = self._conv.padding_mode
        return prod(padding_norm(n, *pads, mode) for n, pads in zip(self.size, self._pads, strict=True))

    @property
    def padded(self) -> dict[str, object]:
        """What `conv_power_iteration` takes beside the weight: the layer as it is, with its padding."""
        if isinstance(self.layer, nn.Linear):
            return {}
        names = ("stride", "padding", "groups", "dilation", "padding_mode")
        return {name: getattr(self._conv, name) for name in names}

    @property
    def _conv(self) -> nn.Conv2d:
        return self.layer.core if isinstance(self.layer, TTConv2d) else self.layer

    @property
    def _extents(self) -> list[int]:
        return [d * (k - 1) + 1 for d, k in zip(self._conv.dilation, self._conv.kernel_size, strict=True)]

    @property
    def _pads(self) -> list[tuple[int, int]]:
        """Pixels before and after the map, vertically and horizontally."""
        left, right, above, below = pad_widths(self._conv.padding, self._conv.kernel_size, self._conv.dilation)
        return [(above, below), (left, right)]

    @property
    def _repeats_pixels(self) -> bool:
        """Does the padding make the operator another one than with zeros or on a circle?"""
        if isinstance(self.layer, nn.Linear) or self._conv.padding_mode == "zeros":
            return False
        if self._conv.padding_mode != "circular":
            return any(map(any, self._pads))
        within = all(sum(pads) < extent for pads, extent in zip(self._pads, self._extents, strict=True))
        return not within or any(n % s for n, s in zip(self.size, self._conv.stride, strict=True))


def operators(network: nn.Module, image_shape: tuple[int, int, int]) -> list[Operator]:
    """Those of all convolutions, linear layers and TT layers, with the parts of TT layers, in the order of a forward pass.

    A layer that is called with inputs of several sizes is there once for each. The network is run in evaluation mode on one
    image of zeros; afterwards every module is in the mode that it was in, even if that fails.

    Args:
        network: whose first parameter has the device and the dtype of the image.
        image_shape: (channels, height, width).
    """
    found: dict[tuple[str, tuple[int, int]], Operator] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            x = inputs[0] if inputs else named["input"]
            size = (1, 1) if isinstance(layer, nn.Linear) else tuple(x.shape[-2:])
            found.setdefault((name, size), Operator(name, layer, size))

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | TTConv2d):
                stack.callback(layer.register_forward_pre_hook(note(name), with_kwargs=True).remove)
        stack.enter_context(_evaluating(network))
        network(next(network.parameters()).new_zeros(1, *image_shape))
    return list(found.values())


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode, and then each in its own again. The flags are set directly: `train` may be overridden."""
    modes = {module: module.training for module in network.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training
