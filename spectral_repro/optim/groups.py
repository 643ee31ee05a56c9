"""Parameter groups: by kind, and for optimisers on the sphere (as cho2017's code sorts them)."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.optimizer import ParamsT

from spectral_repro.optim.adamg import AdamG
from spectral_repro.optim.grassmann import Grassmann
from spectral_repro.optim.sgdg import SGDG

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def sgdg(
    params: ParamsT,
    model: nn.Module,
    lr: float = 0.01,
    lrg: float = 0.2,
    weight_decay: float = 5e-4,
    bn_decay: float = 0.0,
    momentum: float = 0.9,
    omega: float = 0.1,
    grad_clip: float | None = 0.1,
    reset_on_lr_change: bool = False,
) -> SGDG:
    """`SGDG` of the `sphere_groups` of a network.

    Args:
        params, model, lr, lrg, weight_decay, bn_decay: see `sphere_groups`.
        momentum, omega, grad_clip, reset_on_lr_change: see `SGDG`.

    Raises:
        TypeError, ValueError: see `sphere_groups` and `Grassmann`. No weight has been changed then.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.LazyLinear(10))
        >>> optimizer = sgdg(network.parameters(), network)
    """
    groups = sphere_groups(params, model, lr, lrg, weight_decay, bn_decay)
    return SGDG(groups, lr, momentum, omega=omega, grad_clip=grad_clip, reset_on_lr_change=reset_on_lr_change)


def adamg(
    params: ParamsT,
    model: nn.Module,
    lr: float = 0.01,
    lrg: float = 0.05,
    weight_decay: float = 5e-4,
    bn_decay: float = 0.0,
    momentum: float = 0.9,
    beta2: float = 0.99,
    eps: float = 1e-8,
    omega: float = 0.1,
    grad_clip: float | None = 0.1,
    reset_on_lr_change: bool = False,
) -> AdamG:
    """`AdamG` of the `sphere_groups` of a network.

    Args:
        params, model, lr, lrg, weight_decay, bn_decay: see `sphere_groups`.
        momentum, beta2, eps, omega, grad_clip, reset_on_lr_change: see `AdamG`.

    Raises:
        TypeError, ValueError: see `sphere_groups` and `Grassmann`. No weight has been changed then.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.LazyLinear(10))
        >>> optimizer = adamg(network.parameters(), network)
    """
    groups = sphere_groups(params, model, lr, lrg, weight_decay, bn_decay)
    return AdamG(groups, lr, momentum, beta2, eps, omega=omega, grad_clip=grad_clip, reset_on_lr_change=reset_on_lr_change)


def sphere_groups(
    params: ParamsT, model: nn.Module, lr: float, lrg: float, weight_decay: float, bn_decay: float
) -> list[dict[str, object]]:
    """Parameter groups for `SGDG` and `AdamG`, in this order: weights with ``weight_decay``, vectors with ``bn_decay``, and on
    the sphere the weights of convolutions with fewer channels than inputs (in_channels / groups times kernel size).

    A group that is given becomes up to three groups, which keep all that it says: a ``weight_decay`` of its own holds for
    weights and vectors, and ``grassmann`` decides for all its parameters. Where it has a learning rate of its own, f lr,
    its learning rate on the sphere is f lrg, unless it has an ``lrg`` of its own.

    Args:
        params: what to optimise: parameters, named parameters, or groups of either.
        model: the network that they belong to.
        lr: learning rate of what is not on the sphere.
        lrg: learning rate on the sphere.
        weight_decay: of what is neither on the sphere nor a vector.
        bn_decay: weight decay of vectors, which are biases and the parameters of normalisations.

    Returns:
        Groups with the names of their parameters; none is empty.

    Raises:
        TypeError: for a group that is not a dict among others.
        ValueError: if there is nothing to optimise, or nothing of it is for the sphere; for a parameter that is not the
            network's; and for a group with another learning rate than ``lr=0`` that does not say its ``lrg``.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = [module.weight for module in model.modules() if isinstance(module, CONVOLUTIONS)]
    wide = {id(weight) for weight in weights if len(weight) < weight.shape[1:].numel()}
    groups = []
    for given in _given(params):
        rate = given.pop("lr", lr)
        if "lrg" not in given and lr == 0 and rate != 0:
            raise ValueError(f"lr=0: a group with lr={rate} must say its lrg too")
        sphere_rate = given.pop("lrg") if "lrg" in given else lrg if rate == lr else rate / lr * lrg
        rest, vectors, sphere = [], [], []
        for name, parameter in _named(given.pop("params"), names):
            on_sphere = given.get("grassmann", id(parameter) in wide)
            (sphere if on_sphere else vectors if parameter.dim() < 2 else rest).append((name, parameter))
        groups += [
            {"weight_decay": weight_decay} | given | {"params": rest, "lr": rate},
            {"weight_decay": bn_decay} | given | {"params": vectors, "lr": rate},
            given | {"params": sphere, "lr": sphere_rate, "grassmann": True},
        ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("params is empty: there is nothing to optimise")
    if not any(group.get("grassmann") for group in groups):
        raise ValueError("no convolution that is trained has fewer channels than inputs: nothing to optimise on the sphere")
    return groups


def groups_by_kind(
    params: ParamsT,
    model: nn.Module,
    lr: float,
    weight_decay: float,
    norms: Mapping[str, float],
    biases: Mapping[str, float],
) -> list[dict[str, object]]:
    """Parameter groups for any optimiser, with other learning rates and weight decays for normalisations and biases.

    A group that is given becomes up to three: weights, the parameters of normalisations, and biases of other layers. In the
    last two ``lr`` and ``weight_decay`` are those of the given group, or else of the optimiser, times a factor.

    Args:
        params: what to optimise: parameters, named parameters, or groups of either.
        model: the network that they belong to.
        lr, weight_decay: those of the optimiser.
        norms, biases: factors under "lr" and "weight_decay". A weight decay with the factor 1 is left to the optimiser.

    Returns:
        Groups with the names of their parameters; none is empty.

    Raises:
        TypeError, ValueError: see `sphere_groups`.

    Example:
        >>> factors = {"norms": {"lr": 64, "weight_decay": 0}, "biases": {"lr": 1, "weight_decay": 1}}
        >>> optimizer = torch.optim.SGD(groups_by_kind(network.parameters(), network, 0.1, 5e-4, **factors), lr=0.1)
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of_norms = {id(each) for module in model.modules() if isinstance(module, NORMS) for each in module.parameters()}
    groups = []
    for given in _given(params):
        kinds = {"weights": [], "norms": [], "biases": []}
        for name, parameter in _named(given.pop("params"), names):
            kind = "norms" if id(parameter) in of_norms else "biases" if parameter.dim() < 2 else "weights"
            kinds[kind].append((name, parameter))
        for kind, factors in (("weights", {}), ("norms", norms), ("biases", biases)):
            group = given | {"params": kinds[kind], "lr": given.get("lr", lr) * factors.get("lr", 1)}
            if (factor := factors.get("weight_decay", 1)) != 1:
                group["weight_decay"] = given.get("weight_decay", weight_decay) * factor
            groups.append(group)
    return [group for group in groups if group["params"]]


def _given(params: ParamsT) -> list[dict[str, object]]:
    """Copies of the given groups, or the one group of the given parameters."""
    if isinstance(params, Tensor):
        raise TypeError("params is a tensor: give a list of parameters or groups")
    params = list(params)
    dicts = [isinstance(given, dict) for given in params]
    if any(dicts) and not all(dicts):
        raise TypeError("params has groups and parameters: give a list of either")
    return [dict(group) for group in params] if any(dicts) else [{"params": params}]


def _named(params: Tensor | Sequence[Tensor | tuple[str, Tensor]], names: dict[int, str]) -> list[tuple[str, Tensor]]:
    """The parameters of a group with their names in the network, or those that they are given with."""
    params = [params] if isinstance(params, Tensor) else params
    pairs = [given if isinstance(given, tuple) else (None, given) for given in params]
    for name, parameter in pairs:
        if id(parameter) not in names:
            label = f"{name} of shape" if name else "of shape"
            raise ValueError(f"params: the parameter {label} {tuple(parameter.shape)} is not one of the network's")
    return [(name or names[id(parameter)], parameter) for name, parameter in pairs]


def table(optimizer: Grassmann) -> str:
    """Every parameter under what is done with it."""
    lines = []
    for group in optimizer.param_groups:
        kind = "on the sphere" if group["grassmann"] else f"weight decay {group['weight_decay']:g}"
        lines.append(f"{kind}, learning rate {group['lr']:g}: {sum(p.numel() for p in group['params']):,} parameters")
        shapes = [" x ".join(map(str, parameter.shape)) for parameter in group["params"]]
        names = group.get("param_names", ["without a name"] * len(shapes))
        lines += [f"    {name:40}{shape}" for name, shape in zip(names, shapes, strict=True)]
    return "\n".join(lines)
