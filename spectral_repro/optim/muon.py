"""Muon: steps along the orthogonalised momentum, for matrices and for the kernels of convolutions (Jordan et al. 2024)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from spectral_repro.linalg.checks import check_choice, check_count
from spectral_repro.linalg.conv_polar import kernel_of
from spectral_repro.linalg.conv_symbol import Size, Symbol, pair
from spectral_repro.linalg.polar import JORDAN, newton_schulz_polar
from spectral_repro.optim.mixed import MixedOptimizer, gradients_of, named, with_momentum


class Muon(MixedOptimizer):
    """Muon (Jordan et al. 2024): for every weight W with gradient G,

        M <- momentum M + G,   U = G + momentum M,
        W <- (1 - lr weight_decay) W - lr sqrt(max(1, rows / columns)) polar(U).

    For a matrix, polar(U) = (U U^T)^(-1/2) U has the singular vectors of U, and singular values near 1, by
    `newton_schulz_polar`. For the kernel of a convolution, (C_out, C_in / groups, K_1, K_2), it is one of two:

    - "flattened": that of the matrix C_out x (C_in / groups K_1 K_2), as usual. The norm of a step is bounded for the matrix,
      not for the convolution, whose norm may be up to sqrt(K_1 K_2) times larger.
    - "operator": that of the operator itself. Each block of the convolution's symbol (see `Symbol`), C_out x (s^2 C_in), is
      replaced by its polar factor, and the kernel of these blocks cropped to K_1 x K_2. The blocks are those of circular
      padding at ``frequencies`` x ``frequencies`` points (at least as many as the kernel has taps), which stand for all
      frequencies. The time grows with their number; the kernels of 6 and of 32 points differ by 3 to 16 %, measured for 3 x 3
      taps, those of 8 and 32 by 1 to 9 %.

    Each group of a convolution is orthogonalised by itself; rows and columns are those of the orthogonalised matrices. Weights
    of the same shape are batched. Groups with ``use_muon=False`` are optimised by SGD with Nesterov momentum, to whose
    gradients ``weight_decay`` W is added: vectors such as biases, and the classifier, for which Muon is not meant.

    ``torch.optim.Muon`` accepts matrices only and computes in bfloat16; this class computes in float32, or in the dtype of the
    weights if it is wider. See `MixedOptimizer` for the rest.

    Args:
        params: parameters, named parameters, or groups of either with values of their own for any of the following.
        lr: learning rate, >= 0.
        momentum: in [0, 1).
        weight_decay: >= 0.
        use_muon: False for groups that SGD optimises.
        kernels: "flattened" or "operator", how kernels are orthogonalised.
        frequencies: for "operator", in each dimension.
        stride, groups: of the group's convolutions.
        ns_steps, ns_coefficients: see `newton_schulz_polar`.

    Raises:
        TypeError, ValueError: see `MixedOptimizer`; and with ``use_muon``, for weights of fewer than two dimensions, complex
            weights, and weights that do not fit an option. No weight is changed then.

    References:
        Keller Jordan et al. Muon: An optimizer for hidden layers in neural networks. 2024.
        https://kellerjordan.github.io/posts/muon
        Hanie Sedghi, Vineet Gupta, Philip M. Long. The Singular Values of Convolutional Layers. ICLR 2019. (the symbol)

    Example:
        >>> convolution, classifier = nn.Conv2d(64, 32, 3, bias=False), nn.Linear(32, 10)
        >>> hidden = {"params": convolution.parameters(), "kernels": "operator", "lr": 0.02}
        >>> rest = {"params": classifier.parameters(), "use_muon": False, "momentum": 0.9}
        >>> optimizer = Muon([hidden, rest], lr=0.01)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        use_muon: bool = True,
        kernels: Literal["flattened", "operator"] = "flattened",
        frequencies: int = 6,
        stride: Size = 1,
        groups: int = 1,
        ns_steps: int = 5,
        ns_coefficients: tuple[float, float, float] = JORDAN,
    ):
        self._symbols: dict[tuple[Any, ...], Symbol] = {}
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "use_muon": use_muon,
            "kernels": kernels,
            "frequencies": frequencies,
            "stride": stride,
            "groups": groups,
            "ns_steps": ns_steps,
            "ns_coefficients": tuple(ns_coefficients),
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._symbols = {}
        super().__setstate__(state)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not group["use_muon"]:
            return
        check_choice("kernels", group["kernels"], "flattened", "operator")
        for key in ("frequencies", "groups", "ns_steps"):
            check_count(key, group[key])
        if len(group["ns_coefficients"]) != 3:
            raise ValueError(f"ns_coefficients={group['ns_coefficients']}: must be three numbers")
        pair("stride", group["stride"])
        for parameter, name in named(group):
            if not parameter.is_floating_point():
                raise ValueError(f"use_muon=True: {name} is {parameter.dtype}, but Muon is for real numbers")
            if parameter.dim() < 2 or parameter.numel() == 0:
                raise ValueError(f"use_muon=True: {name} is not a matrix or kernel, put it into a group with use_muon=False")
            if len(parameter) % group["groups"]:
                raise ValueError(f"groups={group['groups']}: must divide the rows of {name}")
            if _by_operator(parameter, group):
                if parameter.dim() > 4:
                    raise ValueError(f'kernels="operator": {name} has more than two dimensions of space, take "flattened"')
                self._symbol(parameter, group)

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        if not group["use_muon"]:
            return super().update(group, parameters)
        by_kind = defaultdict(list)
        for parameter in parameters:
            by_kind[parameter.shape, parameter.dtype, parameter.device].append(parameter)
        for alike in by_kind.values():
            gradients, momentum = gradients_of(alike), group["momentum"]
            moments = [self.state_of(parameter, with_momentum)["momentum_buffer"] for parameter in alike]
            torch._foreach_mul_(moments, momentum)
            torch._foreach_add_(moments, gradients)
            directions = self._polar(torch._foreach_add(gradients, moments, alpha=momentum), group)
            if group["weight_decay"]:
                torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(alike, directions, alpha=-group["lr"])

    def describe(self, group: dict[str, Any]) -> str:
        if not group["use_muon"]:
            return super().describe(group)
        return f"Muon, kernels {group['kernels']}, weight decay {group['weight_decay']:g}"

    def _polar(self, updates: Sequence[Tensor], group: dict[str, Any]) -> tuple[Tensor, ...]:
        """sqrt(max(1, rows / columns)) polar(U) of updates of one shape."""
        first, number = updates[0], len(updates) * group["groups"]
        polar = partial(newton_schulz_polar, steps=group["ns_steps"], coefficients=group["ns_coefficients"])
        rows = len(first) // group["groups"]
        if _by_operator(first, group):
            kernels = [_as_kernel(update) for update in updates]
            symbol = self._symbol(first, group).of(kernels)
            changed, columns = kernel_of(symbol, polar), symbol.waves.shape[1] * kernels[0].shape[1]
        else:
            matrices = torch.cat([_computed(update).flatten(1) for update in updates])
            changed, columns = polar(matrices.unflatten(0, (number, rows))), matrices.shape[1]
        changed = changed * math.sqrt(max(1, rows / columns))
        return changed.to(first.dtype).reshape(len(updates), *first.shape).unbind()

    def _symbol(self, parameter: Tensor, group: dict[str, Any]) -> Symbol:
        """The symbol of kernels of this shape, made once because it is copied from the CPU to the device."""
        kernel, stride = _as_kernel(parameter.detach()), pair("stride", group["stride"])
        key = (kernel.shape, kernel.dtype, kernel.device, stride, group["groups"], group["frequencies"])
        if key not in self._symbols:
            points = [max(group["frequencies"], -(-taps // s)) * s for taps, s in zip(kernel.shape[2:], stride, strict=True)]
            self._symbols[key] = Symbol(kernel, tuple(points), stride, group["groups"])
        return self._symbols[key]


def _by_operator(parameter: Tensor, group: dict[str, Any]) -> bool:
    """Whether this is a kernel of several taps that is orthogonalised as an operator."""
    return group["kernels"] == "operator" and parameter.shape[2:].numel() > 1


def _as_kernel(weight: Tensor) -> Tensor:
    """(C_out, C_in, K) as (C_out, C_in, 1, K), in the dtype of the computation."""
    return _computed(weight).unsqueeze(-2) if weight.dim() == 3 else _computed(weight)


def _computed(weight: Tensor) -> Tensor:
    return weight.to(torch.promote_types(weight.dtype, torch.float32))
