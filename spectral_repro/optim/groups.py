"""Which parameters of a network are optimised on the sphere, and which of the others decay (as cho2017's code sorts them)."""

from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from spectral_repro.optim.adamg import AdamG
from spectral_repro.optim.grassmann import Grassmann
from spectral_repro.optim.sgdg import SGDG


def on_sphere(
    optimizer: type[Grassmann],
    parameters: Iterable[Tensor] | list[dict[str, object]],
    model: nn.Module,
    lr: float,
    lrg: float,
    weight_decay: float,
    bn_decay: float,
    **options: object,
) -> Grassmann:
    """An optimiser with three groups: every convolution of fewer channels than it has inputs (in_channels / groups times kernel
    size) on the sphere, with learning rate ``lrg``; vectors, which are biases and what belongs to normalisations, with
    ``bn_decay``; the rest with ``weight_decay``.

    Args:
        optimizer: its class.
        parameters: what to optimise, or groups of it: a group whose learning rate is f lr has f lrg on the sphere.
        model: whose parameters they are.
        options: of the class.

    Raises:
        ValueError: if nothing is left for the sphere.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    wide = {id(weight) for weight in weights if len(weight) < weight.shape[1:].numel()}
    groups = []
    for given in _groups(parameters):
        named = [(names[id(parameter)], parameter) for parameter in given["params"]]
        sphere = [pair for pair in named if id(pair[1]) in wide]
        vectors = [pair for pair in named if pair[1].dim() < 2]
        rest = [pair for pair in named if pair[1].dim() >= 2 and id(pair[1]) not in wide]
        rate = given.get("lr", lr)
        groups += [
            {"params": rest, "lr": rate, "weight_decay": weight_decay},
            {"params": vectors, "lr": rate, "weight_decay": bn_decay},
            {"params": sphere, "lr": rate / lr * lrg, "grassmann": True},
        ]
    if not any(group["params"] for group in groups if "grassmann" in group):
        raise ValueError("no convolution that is trained has fewer channels than inputs: nothing to optimise on the sphere")
    return optimizer([group for group in groups if group["params"]], **options)


sgdg = partial(on_sphere, SGDG)
adamg = partial(on_sphere, AdamG)


def _groups(parameters: Iterable[Tensor] | list[dict[str, object]]) -> list[dict[str, object]]:
    parameters = list(parameters)
    return parameters if isinstance(parameters[0], dict) else [{"params": parameters}]


def table(optimizer: Grassmann) -> str:
    """Every parameter under what is done with it."""
    lines = []
    for group in optimizer.param_groups:
        kind = "on the sphere" if group["grassmann"] else f"weight decay {group['weight_decay']:g}"
        lines.append(f"{kind}, learning rate {group['lr']:g}: {sum(p.numel() for p in group['params']):,} parameters")
        shapes = [" x ".join(map(str, parameter.shape)) for parameter in group["params"]]
        lines += [f"    {name:40}{shape}" for name, shape in zip(group["param_names"], shapes, strict=True)]
    return "\n".join(lines)
