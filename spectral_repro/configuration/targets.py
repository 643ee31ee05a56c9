"""The classes that a configuration may name, so that an untrusted file cannot run code.

Hydra 1.3 blocks targets known to be dangerous. Here only `PACKAGES` are allowed, and the packages in the environment variable
`TRUSTED`, separated by colons.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import hydra.utils
from omegaconf import DictConfig, OmegaConf

from spectral_repro.errors import UserError, first_line

PACKAGES = (
    *("spectral_repro", "torch.nn", "torch.optim"),
    *("torchvision.datasets", "torchvision.models", "torchvision.transforms"),
)
REFUSED = ("torchvision.datasets.utils",)  # can download and unpack to any folder
OF_HYDRA = ("hydra_plugins", "hydra._internal.core_plugins")  # launchers and sweepers, which only Hydra builds
TRUSTED = "SPECTRAL_REPRO_TARGETS"
NAMING_CODE = ("_target_", "()", "class")  # for Hydra, and for logging


def instantiate(config: DictConfig, **arguments: Any) -> Any:
    """`hydra.utils.instantiate` of a configuration, after a check that all its targets are allowed.

    Raises:
        UserError: for the first target that is not allowed.
    """
    for key, name in targets(OmegaConf.to_container(config, resolve=True)):
        locate(name, f"{config._get_full_key(None)}.{key}".lstrip("."))
    return hydra.utils.instantiate(config, **arguments)


def locate(name: object, key: str) -> Callable[..., Any]:
    """The object of an allowed name.

    Raises:
        UserError: if it is not allowed, does not exist, or is defined in a package that is not allowed.
    """
    name = check_name(name, key)
    try:
        found = _imported(name)
    except Exception as error:  # of a module that is imported
        raise UserError(f"{key}={name}: cannot be imported ({type(error).__name__}: {first_line(error)})") from error
    check_name(_own_name(found), f"{key}={name}")
    if not callable(found):
        raise UserError(f"{key}={name}: is not a class or function")
    return found


def _imported(name: str) -> object:
    """An attribute takes precedence over a submodule of the same name."""
    first, *others = name.split(".")
    found, path = importlib.import_module(first), first
    for part in others:
        path = f"{path}.{part}"
        if not hasattr(found, part) and hasattr(found, "__path__"):
            importlib.import_module(path)
        found = getattr(found, part)
    return found


def check_file(content: object, source: str) -> None:
    """Checks the targets of a file before it is composed; those of Hydra's plugins are also allowed.

    Raises:
        UserError: for the first target that is not allowed.
    """
    for key, name in targets(content):
        check_name(name, f"{source}: {key}", OF_HYDRA)


def targets(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """All values that name code, by dotted key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key in NAMING_CODE:
            yield f"{prefix}{key}", value
        else:
            yield from targets(value, f"{prefix}{key}.")


def check_name(name: object, key: str, more: tuple[str, ...] = ()) -> str:
    """The name of something in an allowed package.

    Raises:
        UserError: if it is not in an allowed package.
    """
    trusted = tuple(filter(None, os.environ.get(TRUSTED, "").split(":")))
    if not isinstance(name, str) or not _within(name, PACKAGES + more + trusted) or _within(name, REFUSED):
        raise UserError(
            f"{key}={name}: must be in {', '.join(PACKAGES)}, or in a package of yours that the environment variable "
            f"{TRUSTED} names"
        )
    return name


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _own_name(found: object) -> str:
    """The name of an object where it is defined, because allowed modules import objects of other modules."""
    if isinstance(found, functools.partial):
        return _own_name(found.func)
    if isinstance(found, ModuleType):
        return found.__name__
    return f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
