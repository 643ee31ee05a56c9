"""The convolutions and linear layers of a network as linear maps of what they are given."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spectral_repro.layers import TTConv2d


@dataclass(frozen=True)
class Operator:
    """A layer and the size of its input. A linear layer is a 1 x 1 convolution of one pixel."""

    name: str
    layer: nn.Conv2d | nn.Linear | TTConv2d
    size: tuple[int, int]

    @property
    def weight(self) -> Tensor:
        """(C_out, C_in / groups, K_1, K_2) without gradient; but for a TT layer, to be changed in place."""
        if isinstance(self.layer, TTConv2d):
            return self.layer.weight.detach()
        weight = self.layer.weight.detach()
        return weight[:, :, None, None] if isinstance(self.layer, nn.Linear) else weight

    def random_input(self, generator: torch.Generator) -> Tensor:
        """(1, C_in, height, width), standard normal, as the weight is."""
        channels = self.layer.in_features if isinstance(self.layer, nn.Linear) else self.layer.in_channels
        return torch.randn(1, channels, *self.size, generator=generator).to(self.weight)

    @property
    def circular(self) -> dict[str, object]:
        """What `Symbol` takes beside the weight: the size of the input, rounded up to a multiple of the stride.

        Where the kernel is larger than the map, the padding is added to the size: then the circular operator bounds that of the
        layer in any case, while on so few pixels it may fall short of it.
        """
        if isinstance(self.layer, nn.Linear):
            return {"input_size": self.size}
        conv, padding = self._conv, self.zero_padded["padding"]
        extents = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        needed = [n if extent <= n else n + p for n, extent, p in zip(self.size, extents, padding, strict=True)]
        size = tuple(-(-n // s) * s for n, s in zip(needed, conv.stride, strict=True))
        return {"input_size": size, "stride": conv.stride, "groups": conv.groups, "dilation": conv.dilation}

    @property
    def zero_padded(self) -> dict[str, object]:
        """What `conv_power_iteration` takes beside the weight."""
        if isinstance(self.layer, nn.Linear):
            return {}
        conv = self._conv
        half = tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
        padding = {"same": half, "valid": (0, 0)}.get(conv.padding, conv.padding)
        return {"stride": conv.stride, "padding": padding, "groups": conv.groups, "dilation": conv.dilation}

    @property
    def _conv(self) -> nn.Conv2d:
        return self.layer.core if isinstance(self.layer, TTConv2d) else self.layer


def operators(network: nn.Module, image_shape: tuple[int, int, int]) -> list[Operator]:
    """Those of all convolutions, linear layers and TT layers, with the parts of TT layers, in the order of a forward pass."""
    found = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            size = (1, 1) if isinstance(layer, nn.Linear) else tuple(inputs[0].shape[2:])
            found[name] = Operator(name, layer, size)

        return hook

    training, parameter = network.training, next(network.parameters())
    with ExitStack() as hooks, torch.no_grad():
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | TTConv2d):
                hooks.callback(layer.register_forward_pre_hook(note(name)).remove)
        network.eval()(parameter.new_zeros(1, *image_shape))
    network.train(training)
    return list(found.values())
