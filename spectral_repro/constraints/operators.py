"""The convolutions and linear layers of a network as linear operators."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spectral_repro.layers import TTConv2d
from spectral_repro.linalg import conv_norm
from spectral_repro.linalg.conv_padding import circular_operator


@dataclass(frozen=True)
class Operator:
    """A layer and the size of its input. A linear layer is a 1 x 1 convolution of one pixel.

    Args:
        name: of the layer in its network.
        layer: the layer.
        size: height and width of its input.

    Example:
        >>> operator = Operator("stem", nn.Conv2d(3, 8, 3, stride=2, padding=1), size=(32, 32))
        >>> operator.key
        'stem 32 x 32'
        >>> bool(operator.norm() > 0)
        True
    """

    name: str
    layer: nn.Conv2d | nn.Linear | TTConv2d
    size: tuple[int, int]

    @property
    def key(self) -> str:
        """Name and size, since a layer with inputs of several sizes is one operator for each size."""
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
        """`conv_norm` of the ``circular`` operator times ``expansion``, a scalar tensor.

        It is exact for circular padding that keeps the size, the norm that senderovich2022 bounds for padding with zeros, and
        an upper bound of the norm for padding with reflected or replicated pixels.
        """
        return conv_norm(self.weight, **self.circular) * self.expansion

    @property
    def circular(self) -> dict[str, Any]:
        """The arguments of `conv_norm` other than the weight: size of a circular map, stride, groups and dilation.

        The size is that of `circular_operator`, with one exception: with zeros, and a kernel that fits on the map, it is the
        size of the map, rounded up to a multiple of the stride, as in senderovich2022. There, the norm of the circular operator
        and that of the layer are close, and either may be the larger one.
        """
        if isinstance(self.layer, nn.Linear):
            return {"input_size": self.size}
        size, conv = self._circular_operator[0], self._conv
        if conv.padding_mode == "zeros":
            extents = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
            rounded = [-(-n // s) * s for n, s in zip(self.size, conv.stride, strict=True)]
            height, width = (r if e <= n else c for n, e, r, c in zip(self.size, extents, rounded, size, strict=True))
            size = height, width
        return {"input_size": size, "stride": conv.stride, "groups": conv.groups, "dilation": conv.dilation}

    @property
    def expansion(self) -> float:
        """The factor from singular values of the circular operator to bounds of those of the layer (`circular_operator`)."""
        return 1.0 if isinstance(self.layer, nn.Linear) else self._circular_operator[1]

    @property
    def padded(self) -> dict[str, Any]:
        """The arguments of `conv_power_iteration` other than the weight: those of the layer, with its padding."""
        if isinstance(self.layer, nn.Linear):
            return {}
        names = ("stride", "padding", "groups", "dilation", "padding_mode")
        return {name: getattr(self._conv, name) for name in names}

    @property
    def _conv(self) -> nn.Conv2d:
        assert not isinstance(self.layer, nn.Linear)
        return self.layer.core if isinstance(self.layer, TTConv2d) else self.layer

    @property
    def _circular_operator(self) -> tuple[tuple[int, int], float]:
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        return circular_operator(self.size, **{name: getattr(self._conv, name) for name in names})


def operators(network: nn.Module, image_shape: tuple[int, int, int]) -> list[Operator]:
    """The operators of all convolutions, linear layers, TT layers and their parts, in the order of a forward pass.

    A layer with inputs of several sizes appears once for each. The network is run on one image of zeros in evaluation mode;
    afterwards every module is in its own mode again, even after an error.

    Args:
        network: whose first parameter, if there is one, has the device and the dtype of the image.
        image_shape: (channels, height, width).
    """
    found: dict[tuple[str, tuple[int, int]], Operator] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def hook(layer: Any, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            x = inputs[0] if inputs else named["input"]
            size = (1, 1) if isinstance(layer, nn.Linear) else (x.shape[-2], x.shape[-1])
            found.setdefault((name, size), Operator(name, layer, size))

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | TTConv2d):
                stack.callback(layer.register_forward_pre_hook(note(name), with_kwargs=True).remove)
        stack.enter_context(_evaluating(network))
        network(next(network.parameters(), torch.empty(0)).new_zeros(1, *image_shape))
    return list(found.values())


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Sets all modules to evaluation mode, then back. The flags are set directly, since `train` may be overridden."""
    modes = {module: module.training for module in network.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training
