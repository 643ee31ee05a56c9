"""Parameter groups: by kind of parameter, and for optimisers that update some parameters by another rule."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.optimizer import ParamsT

from spectral_repro.bounds import BelowOne, Count, NotNegative, Positive
from spectral_repro.layers import SOC
from spectral_repro.linalg.polar import JORDAN
from spectral_repro.optim.adamg import AdamG
from spectral_repro.optim.muon import Muon
from spectral_repro.optim.sgdg import SGDG

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


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

    Returns:
        The optimiser.

    Raises:
        TypeError, ValueError: see `sphere_groups` and `Grassmann`. No weight has been changed then.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
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

    Returns:
        The optimiser.

    Raises:
        TypeError, ValueError: see `sphere_groups` and `Grassmann`. No weight has been changed then.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        >>> optimizer = adamg(network.parameters(), network)
    """
    groups = sphere_groups(params, model, lr, lrg, weight_decay, bn_decay)
    return AdamG(groups, lr, momentum, beta2, eps, omega=omega, grad_clip=grad_clip, reset_on_lr_change=reset_on_lr_change)


def muon(
    params: ParamsT,
    model: nn.Module,
    lr: Positive = 0.01,
    muon_lr: Positive = 0.02,
    momentum: BelowOne = 0.9,
    muon_momentum: BelowOne = 0.95,
    weight_decay: NotNegative = 5e-4,
    bn_decay: NotNegative = 0.0,
    muon_decay: NotNegative = 0.0,
    kernels: Literal["flattened", "operator"] = "flattened",
    frequencies: Count = 6,
    ns_steps: Count = 5,
    ns_coefficients: tuple[float, float, float] = JORDAN,
) -> Muon:
    """`Muon` for the hidden weights of a network and SGD for the rest: ``model.classifier``, if there is one, and everything
    but the weights of linear layers and convolutions, such as biases and the parameters of normalisations.

    Convolutions of different strides and groups become groups of their own, since their operators differ. Weights that
    ``torch.nn.utils.parametrize`` computes are optimised by SGD. Frozen parameters (``requires_grad=False``) are left out. If
    you unfreeze some of them, make a new optimiser.

    A given group is split in the same way and keeps its options: its ``lr``, ``momentum`` and ``weight_decay`` are for SGD, its
    ``muon_lr``, ``muon_momentum`` and ``muon_decay`` for Muon, and ``use_muon`` decides for all its parameters. If it sets only
    a learning rate for SGD, f lr, that of Muon is f muon_lr.

    Args:
        params: what to optimise: parameters, named parameters, or groups of either.
        model: the network that they belong to.
        lr, momentum: of SGD.
        muon_lr, muon_momentum: of Muon.
        weight_decay: of the weights that SGD optimises, added to their gradients.
        bn_decay: the same for vectors, which are biases and the parameters of normalisations.
        muon_decay: decoupled weight decay of what Muon optimises.
        kernels, frequencies, ns_steps, ns_coefficients: see `Muon`.

    Returns:
        The optimiser.

    Raises:
        TypeError, ValueError: see `Muon`; if there is nothing to optimise, or nothing of it by Muon; and for a parameter that
            is not the network's.

    Example:
        >>> network = resnet18(num_classes=10, width=8)
        >>> optimizer = muon(network.parameters(), network, kernels="operator")
    """
    head = getattr(model, "classifier", None)
    excluded = {id(parameter) for parameter in head.parameters()} if isinstance(head, nn.Module) else set()
    hidden = {}
    for module in model.modules():
        if isinstance(module, (nn.Linear, SOC, *CONVOLUTIONS)) and id(module.weight) not in excluded:
            hidden[id(module.weight)] = _geometry(module) if isinstance(module, CONVOLUTIONS) else {}
    own = {"lr": ("muon_lr", muon_lr), "momentum": ("muon_momentum", muon_momentum), "weight_decay": ("muon_decay", muon_decay)}
    groups = _split(params, model, hidden, "use_muon", lr, own, weight_decay, bn_decay)
    if not any(group["use_muon"] for group in groups):
        raise ValueError("no hidden layer that is trained has a weight: nothing to optimise by Muon")
    return Muon(
        groups,
        lr,
        momentum,
        kernels=kernels,
        frequencies=frequencies,
        ns_steps=ns_steps,
        ns_coefficients=ns_coefficients,
    )


def _geometry(conv: nn.Module) -> dict[str, Any]:
    """Stride and groups of a convolution as options of `Muon`, whose operators have one or two dimensions of space."""
    if isinstance(conv, nn.Conv3d):
        return {"groups": conv.groups}
    stride = (1, *conv.stride) if isinstance(conv, nn.Conv1d) else conv.stride
    return {"stride": stride, "groups": conv.groups}


def sphere_groups(
    params: ParamsT, model: nn.Module, lr: float, lrg: float, weight_decay: float, bn_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for `SGDG` and `AdamG`, in this order: weights with ``weight_decay``, vectors with ``bn_decay``, and on
    the sphere the weights of convolutions with fewer channels than inputs (in_channels / groups times kernel size).

    Frozen parameters (``requires_grad=False``) are left out. If you unfreeze some of them, make a new optimiser.

    A given group becomes up to three groups, which keep its options: its ``weight_decay`` is for weights and vectors, and
    ``grassmann`` decides for all its parameters. If it sets a learning rate f lr and no ``lrg``, its learning rate on the
    sphere is f lrg.

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
        ValueError: if there is nothing to optimise, or nothing of it on the sphere; for a parameter that is not the network's;
            and with ``lr=0``, for a group that sets another learning rate and no ``lrg``.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16, 10))
        >>> groups = sphere_groups(network.parameters(), network, lr=0.01, lrg=0.2, weight_decay=5e-4, bn_decay=0.0)
        >>> [(group["grassmann"], group["lr"], len(group["params"])) for group in groups]
        [(False, 0.01, 1), (False, 0.01, 4), (True, 0.2, 1)]
    """
    weights = [module.weight for module in model.modules() if isinstance(module, CONVOLUTIONS)]
    wide: dict[int, dict[str, Any]] = {id(weight): {} for weight in weights if len(weight) < weight.shape[1:].numel()}
    groups = _split(params, model, wide, "grassmann", lr, {"lr": ("lrg", lrg)}, weight_decay, bn_decay)
    if not any(group["grassmann"] for group in groups):
        raise ValueError("no convolution that is trained has fewer channels than inputs: nothing to optimise on the sphere")
    return groups


def _split(
    params: ParamsT,
    model: nn.Module,
    chosen: Mapping[int, dict[str, Any]],
    flag: str,
    lr: float,
    own: Mapping[str, tuple[str, float]],
    weight_decay: float,
    bn_decay: float,
) -> list[dict[str, Any]]:
    """Splits every given group into weights, vectors, and parameters that are updated by another rule, without frozen ones.

    Args:
        params, model, lr, weight_decay, bn_decay: see `sphere_groups`.
        chosen: the parameters with the other rule, by id, and options of the group that each belongs to.
        flag: the option of a group that says whether it has that rule.
        own: for options with other values under that rule: their names and values there.

    Returns:
        Groups that are not empty, each with the flag.

    Raises:
        TypeError: for a group that is not a dict among others.
        ValueError: if there is nothing to optimise; for a parameter that is not the network's; and with ``lr=0``, for a group
            that sets another learning rate and not that of the rule.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own_lr, default = own["lr"]
    groups = []
    for given in _given(params):
        rate = given.setdefault("lr", lr)
        if own_lr not in given:
            if lr == 0 and rate != 0:
                raise ValueError(f"lr=0: a group with lr={rate} must say its {own_lr} too")
            given[own_lr] = default if rate == lr else rate / lr * default
        ruled = {option: given.pop(name, value) for option, (name, value) in own.items()}
        rest: list[tuple[str, Tensor]] = []
        vectors: list[tuple[str, Tensor]] = []
        by_options = defaultdict(list)
        named = _named(given.pop("params"), names)
        for name, parameter in [each for each in named if each[1].requires_grad]:
            if given.get(flag, id(parameter) in chosen):
                by_options[tuple(chosen.get(id(parameter), {}).items())].append((name, parameter))
            else:
                (vectors if parameter.dim() < 2 else rest).append((name, parameter))
        groups += [
            {"weight_decay": weight_decay} | given | {"params": rest, flag: False},
            {"weight_decay": bn_decay} | given | {"params": vectors, flag: False},
        ]
        groups += [dict(options) | given | ruled | {"params": those, flag: True} for options, those in by_options.items()]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("params is empty, or all of it is frozen: there is nothing to optimise")
    return groups


def groups_by_kind(
    params: ParamsT,
    model: nn.Module,
    lr: float,
    weight_decay: float,
    norms: Mapping[str, float],
    biases: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Parameter groups for any optimiser, with other learning rates and weight decays for normalisations and biases.

    A given group becomes up to three: weights, the parameters of normalisations, and biases of other layers. In the last two,
    ``lr`` and ``weight_decay`` of the given group, or else of the optimiser, are multiplied by a factor.

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
        >>> network = resnet18(num_classes=10, width=8)
        >>> factors = {"norms": {"lr": 64, "weight_decay": 0}, "biases": {"lr": 1, "weight_decay": 1}}
        >>> optimizer = torch.optim.SGD(groups_by_kind(network.parameters(), network, 0.1, 5e-4, **factors), lr=0.1)
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    norm_parameters = {id(each) for module in model.modules() if isinstance(module, NORMS) for each in module.parameters()}
    groups = []
    for given in _given(params):
        kinds: dict[str, list[tuple[str, Tensor]]] = {"weights": [], "norms": [], "biases": []}
        for name, parameter in _named(given.pop("params"), names):
            kind = "norms" if id(parameter) in norm_parameters else "biases" if parameter.dim() < 2 else "weights"
            kinds[kind].append((name, parameter))
        for kind, factors in (("weights", {}), ("norms", norms), ("biases", biases)):
            group = given | {"params": kinds[kind], "lr": given.get("lr", lr) * factors.get("lr", 1)}
            if (factor := factors.get("weight_decay", 1)) != 1:
                group["weight_decay"] = given.get("weight_decay", weight_decay) * factor
            groups.append(group)
    return [group for group in groups if group["params"]]


def _given(params: ParamsT) -> list[dict[str, Any]]:
    """Copies of the given groups, or the one group of the given parameters."""
    if isinstance(params, Tensor):
        raise TypeError("params is a tensor: give a list of parameters or groups")
    given = list(params)
    groups = [dict(group) for group in given if isinstance(group, dict)]
    if groups and len(groups) < len(given):
        raise TypeError("params has groups and parameters: give a list of either")
    return groups or [{"params": given}]


def _named(params: Tensor | Sequence[Tensor | tuple[str, Tensor]], names: dict[int, str]) -> list[tuple[str, Tensor]]:
    """The parameters of a group with their given names, or else their names in the network."""
    params = [params] if isinstance(params, Tensor) else params
    pairs = [given if isinstance(given, tuple) else (None, given) for given in params]
    for name, parameter in pairs:
        if id(parameter) not in names:
            label = f"{name} of shape" if name else "of shape"
            raise ValueError(f"params: the parameter {label} {tuple(parameter.shape)} is not one of the network's")
    return [(name or names[id(parameter)], parameter) for name, parameter in pairs]
