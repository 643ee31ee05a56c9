"""Replaces modules of a network by other layers, and turns them back into modules of torch."""

import copy
import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize


class Replacement(Protocol):
    """The interface that `convert` and `export` need of a layer, such as `TTConv2d`.

    Attributes:
        replaces: the classes of torch that the layer can replace.

    Example:
        >>> TTConv2d.replaces
        (<class 'torch.nn.modules.conv.Conv2d'>,)
        >>> layer = TTConv2d.from_module(nn.Conv2d(16, 32, 3), rank=8)
        >>> layer.to_module()
        Conv2d(16, 32, kernel_size=(3, 3), stride=(1, 1))
    """

    replaces: ClassVar[tuple[type[nn.Module], ...]]

    @classmethod
    def from_module(cls, module: nn.Module, keep_weights: bool = True) -> Self:
        """A layer with the shape, the device and the dtype of a module, and options of its own.

        Args:
            module: of a class of ``replaces``.
            keep_weights: copy parameters and buffers, so that the layer computes the same, or nearly so; False: they start as
                in a new layer.

        Raises:
            ValueError: if the layer cannot compute what the module does, or cannot copy its weights.
        """

    def to_module(self) -> nn.Module:
        """A module of torch with the same outputs in evaluation mode.

        Raises:
            ValueError: if there is none.
        """


def convert(
    model: nn.Module,
    layer: type[Replacement],
    keep_first: bool = False,
    keep_weights: bool = True,
    **options: Any,
) -> nn.Module:
    """Replaces every module that ``layer`` can replace, in place: `nn.Conv2d` by `TTConv2d`, for example.

    A module that is used in several places is replaced by one layer in all of them. The layers keep device, dtype, training
    mode and frozen parameters (``requires_grad``). All layers are made before the first module is replaced, so after an error
    the network is unchanged.

    Args:
        model: a network, or a single module.
        layer: the class of the new layers (`Replacement`).
        keep_first: do not replace the first of the modules.
        keep_weights: make the layers from the weights of the modules; False: with random weights.
        options: of the layer, such as ``rank``.

    Returns:
        The network; the new layer, if the model itself was replaced.

    Raises:
        ValueError: if ``layer`` is not such a class; naming the module, if it cannot be replaced: because the layer refuses it,
            or because of a subclass, a parametrization, a hook, or a parameter shared by two modules, which would be lost.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        >>> convert(network, TTConv2d, rank=4)[2].weight.shape
        torch.Size([8, 8, 3, 3])
    """
    if isinstance(layer, functools.partial):  # Hydra's way to name a class
        layer, options = layer.func, layer.keywords | options
    if isinstance(layer, nn.Module):
        name = type(layer).__name__
        raise ValueError(f"layer={name}(...): must be a class; options go to convert: convert(network, {name}, option=value)")
    if not hasattr(layer, "from_module"):
        raise ValueError(f"layer={layer}: must be a class with replaces and from_module, such as TTConv2d")
    found = [(name, module) for name, module in _outside_layers(model) if isinstance(module, layer.replaces)][keep_first:]
    _check(found, layer)
    return _replace(model, {module: _made(name, module, layer, keep_weights, options) for name, module in found})


def export(model: nn.Module) -> nn.Module:
    """A copy of the network with plain convolutions, the same outputs in evaluation and the names before `convert`.

    Every layer with `Replacement.to_module`, such as `TTConv2d`, is replaced, and every parametrized tensor becomes a plain
    parameter. Tied weights stay tied where they are equal. Whitening and denoising layers, poolings and other modules stay as
    they are.

    Args:
        model: a network, or a single module.

    Returns:
        The copy.

    Raises:
        ValueError: naming the layer, for `SOC` and `SOTT`: `SOC` applies several zero-padded convolutions in turn, and no
            single `nn.Conv2d` computes the same.

    Example:
        >>> export(TTConv2d(3, 8, 3, rank=2))
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """
    plain = copy.deepcopy(model)
    made: dict[nn.Module, nn.Module] = {}
    for name, module in _outside_layers(plain):
        to_module = getattr(module, "to_module", None)
        if to_module is not None:
            try:
                made[module] = _alike(to_module(), module)
            except ValueError as error:
                raise ValueError(f"{_place(name, module)}: {error}") from error
    plain = _replace(plain, made)
    made_of: defaultdict[tuple[nn.Parameter, ...], list[nn.Parameter]] = defaultdict(list)
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            # a copy has the class of its original, of which remove_parametrizations would delete the property
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            parametrized = module.parametrizations
            assert isinstance(parametrized, nn.ModuleDict)
            for name, parametrizations in list(parametrized.items()):
                originals = tuple(parametrizations.parameters(recurse=False))
                parametrizations.eval()  # in training, a power iteration would go on
                if len(originals) == 1:  # torch writes into it, and other modules may share it
                    own = nn.Parameter(originals[0].detach().clone(), requires_grad=originals[0].requires_grad)
                    parametrizations.original = own
                parametrize.remove_parametrizations(module, name)
                if (frozen := module._buffers.pop(name, None)) is not None:  # it was made of frozen parameters alone
                    module.register_parameter(name, nn.Parameter(frozen, requires_grad=False))
                value = getattr(module, name)
                if (equal := next((each for each in made_of[originals] if _nearly_equal(each, value)), None)) is not None:
                    module.register_parameter(name, equal)
                else:
                    made_of[originals].append(value)
    return plain


def _nearly_equal(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors differ in less than the rounding of power iterations from different starts."""
    return first.shape == second.shape and bool((first - second).norm() <= 1e-3 * second.norm())


def _outside_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, without the parts of layers that `convert` makes."""
    within = [f"{name}." for name, module in model.named_modules() if name and hasattr(module, "from_module")]
    whole = hasattr(model, "from_module")
    for name, module in model.named_modules():
        if not (whole and name) and not name.startswith(tuple(within)):
            yield name, module


def _check(found: list[tuple[str, nn.Module]], layer: type[Replacement]) -> None:
    owners: dict[nn.Parameter, str] = {}
    for name, module in found:
        place = _place(name, module)
        if isinstance(module, LazyModuleMixin):
            raise ValueError(f"{place} has no size yet: pass a batch through the network first")
        if parametrize.is_parametrized(module):
            raise ValueError(f"{place} has parametrizations, which would be lost: remove_parametrizations first")
        if not any(_computes_as(module, kind) for kind in layer.replaces):
            raise ValueError(f"{place} is a subclass with a forward of its own: replace it by hand")
        if any(value for key, value in vars(module).items() if key.endswith("_hooks")):
            raise ValueError(f"{place} has hooks, which would be lost: remove them first")
        for parameter in module.parameters():
            if (other := owners.setdefault(parameter, name)) != name:
                raise ValueError(f"{place} shares a parameter with {other}, and the new layers would not: replace it by hand")


def _computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether it is of this class, or of a subclass that does not change its forward."""
    kept = all(getattr(type(module), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))
    return isinstance(module, kind) and kept


def _made(name: str, module: nn.Module, layer: type[Replacement], keep_weights: bool, options: dict[str, Any]) -> nn.Module:
    try:
        new: Any = layer.from_module(module, keep_weights=keep_weights, **options)
        return _alike(new, module)
    except ValueError as error:
        raise ValueError(f"{_place(name, module)}: {error}") from error


def _alike(new: nn.Module, old: nn.Module) -> nn.Module:
    """The new module in the mode of the old one. Weights (biases) need gradients if any weight (bias) of the old one does."""
    trained = [name.rpartition(".")[2] for name, parameter in old.named_parameters() if parameter.requires_grad]
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in trained)
    return new.train(old.training)


def _replace(model: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Replaces the old modules by the new ones wherever they are used."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # named_children would name a shared child once
            if child in made:
                parent._modules[name] = made[child]
    return made.get(model, model)


def _place(name: str, module: nn.Module) -> str:
    return f"{name or 'the module'} ({type(module).__name__})"
