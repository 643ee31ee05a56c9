"""Rules for the arguments of classes and functions, from their annotations."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types

from spectral_repro.configuration.targets import locate
from spectral_repro.configuration.values import SWITCH, TEXT, Rule, any_of, bounded, list_of, number, one_of, whole
from spectral_repro.errors import UserError

OF_HYDRA = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")

# bounds that the annotations of torch's classes in conf/ do not contain
BOUNDS = {
    "torch.nn.BatchNorm2d": {"eps": number(above=0), "momentum": number(above=0, most=1)},
    "torch.optim": {
        "lr": number(above=0),
        "momentum": number(least=0, below=1),
        "weight_decay": number(least=0),
        "eps": number(above=0),
        "betas": list_of(number(least=0, below=1), length=2),
    },
}


def check_arguments(config: Mapping[str, Any], prefix: str = "") -> None:
    """Checks all keys and values of nodes with a class or function against its signature, before any is called.

    A value must be of its annotation: bool, int, float, str, a Literal, None, unions and lists of these, and bounds in
    ``Annotated`` (annotated-types). Other annotations, such as Module, are not checked here.

    Raises:
        UserError: for the first name that cannot be imported, unknown argument, or invalid value.
    """
    for key, node in config.items():
        if isinstance(node, Mapping):
            if "_target_" in node:
                _check_node(node, f"{prefix}{key}")
            check_arguments(node, f"{prefix}{key}.")


def _check_node(node: Mapping[str, Any], key: str) -> None:
    name = node["_target_"]
    known, open_ended = parameters(locate(name, f"{key}._target_"))
    if open_ended:  # it passes other arguments to another target, as `layers.convert` does to its layer
        for argument, inner in node.items():
            if isinstance(inner, Mapping) and "_target_" in inner:
                others, open_ended = parameters(locate(inner["_target_"], f"{key}.{argument}._target_"))
                known = others | known
    for argument, value in node.items():
        if argument in OF_HYDRA:
            continue
        if argument not in known:
            if open_ended:
                continue
            raise UserError(f"{key}.{argument}: {name} has no such argument; it takes {', '.join(known) or 'none'}")
        rule = _bounds_of(name).get(argument) or rule_of(known[argument])
        if rule and not isinstance(value, Mapping):
            rule.check(f"{key}.{argument}", value)


def _bounds_of(name: str) -> dict[str, Rule]:
    return BOUNDS.get(name) or BOUNDS.get(name.rpartition(".")[0], {})


def parameters(made: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The annotations of the arguments by name, including those passed on to base classes, and whether there may be others."""
    known: dict[str, Any] = {}
    for function in _signatures(made):
        open_ended = False
        for parameter in function.parameters.values():
            if parameter.kind == parameter.VAR_KEYWORD:
                open_ended = True
            elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                known.setdefault(parameter.name, parameter.annotation)
        if not open_ended:
            return known, False
    return known, True


def _signatures(made: Callable[..., Any]) -> Iterator[inspect.Signature]:
    yield _signature(made)
    for base in made.__mro__[1:-1] if isinstance(made, type) else ():
        if "__init__" in vars(base):
            yield _signature(base)


def _signature(made: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(made, eval_str=True)
    except NameError:  # an annotation that only type checkers import
        return inspect.signature(made)


def rule_of(annotation: Any) -> Rule | None:
    """The rule for an annotation; None if any value is allowed."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _narrowed(rule_of(parts[0]), parts[1:])
    if origin is Literal:
        return one_of(*parts)
    if origin in (Union, UnionType):
        rules = [rule_of(part) for part in parts if part is not NoneType]
        if not any(rules):
            return None
        rule = any_of(*filter(None, rules))
        return rule.or_null() if NoneType in parts else rule
    if origin in (list, tuple, Sequence) and parts:
        item = rule_of(parts[0])
        length = len(parts) if origin is tuple and Ellipsis not in parts else None
        return list_of(item, length) if item else None
    of_types: dict[Any, Rule] = {bool: SWITCH, int: whole(), float: number(), str: TEXT}
    return of_types.get(annotation)


def _narrowed(rule: Rule | None, metadata: Sequence[object]) -> Rule | None:
    """The rule with the bounds of ``Annotated``. The docstring of a predicate says what it allows or, if it begins with "with",
    what it requires in addition.
    """
    atoms = [atom for each in metadata for atom in (each if isinstance(each, annotated_types.GroupedMetadata) else [each])]
    bounds = {name: getattr(atom, name) for atom in atoms for name in ("gt", "ge", "lt", "le") if hasattr(atom, name)}
    rule = bounded(rule, **bounds) if rule and bounds else rule
    for atom in atoms:
        if isinstance(atom, annotated_types.Predicate):
            words = inspect.getdoc(atom.func) or f"with {atom}"
            rule = Rule(
                f"{rule.allowed if rule else 'a value'}, {words}" if words.startswith("with") else words, _both(rule, atom)
            )
    return rule


def _both(rule: Rule | None, predicate: annotated_types.Predicate) -> Callable[[object], bool]:
    return lambda value: (rule is None or rule.holds(value)) and predicate.func(value)
