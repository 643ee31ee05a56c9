"""Every public name has a docstring with an example, and the examples compute what they print."""

import importlib
import inspect
import re
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, DocTest, DocTestFinder, DocTestRunner, OutputChecker
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from spectral_repro.configuration.folders import CONF

PACKAGES = {
    name: importlib.import_module(f"spectral_repro.{name}")
    for name in (
        "constraints",
        "data",
        "evaluation",
        "layers",
        "layers.parametrizations",
        "linalg",
        "linalg.backward",
        "linalg.functions",
        "linalg.roots",
        "models",
        "optim",
        "optim.schedules",
        "reporting",
        "studies",
        "training",
    )
}
# names without an example: aliases of types
WITHOUT = {"optim.Schedule", "models.FirstImages", "models.Initialisation"}
AT_HAND = {"Fraction": Fraction, "Path": Path, "nn": nn, "torch": torch}


VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]\d+)?")


class NearlyEqual(OutputChecker):
    """Numbers may differ by 1e-4, so that rounding on another processor is no failure."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        texts = ["".join(NUMBER.sub("#", text).split()) for text in (want, got)]
        wanted, found = ([float(number) for number in NUMBER.findall(text)] for text in (want, got))
        return texts[0] == texts[1] and found == pytest.approx(wanted, abs=1e-4)


def public(package: ModuleType) -> dict[str, object]:
    """The names of ``__all__``; of a module without it, the functions and classes that it defines."""
    names = getattr(package, "__all__", None) or [
        name for name, value in vars(package).items() if getattr(value, "__module__", "") == package.__name__ and name[0] != "_"
    ]
    return {name: getattr(package, name) for name in names if not inspect.ismodule(getattr(package, name))}


def examples(package: ModuleType) -> Iterator[DocTest]:
    """Those of its public names, each with `AT_HAND` and the public names of all packages."""
    names = AT_HAND | {name: value for each in PACKAGES.values() for name, value in public(each).items()}
    for name, value in public(package).items():
        if not isinstance(value, partial):
            yield from DocTestFinder(exclude_empty=True).find(value, name, module=False, globs=names)


@pytest.mark.parametrize("name", PACKAGES)
def test_examples_compute_what_they_print(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """In an empty folder with the committed results."""
    (tmp_path / "results").symlink_to(CONF.parent / "results")
    monkeypatch.chdir(tmp_path)
    runner = DocTestRunner(NearlyEqual(), verbose=False, optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)
    for test in examples(PACKAGES[name]):
        torch.manual_seed(0)
        runner.run(test)
    assert not runner.failures, capsys.readouterr().out
    assert runner.tries


def test_every_public_name_has_an_example():
    """A variant of a class, made by `functools.partial`, has that of the class."""
    missing = set()
    for package, module in PACKAGES.items():
        for name, value in public(module).items():
            while isinstance(value, partial):
                value = value.func
            own = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
            if ">>>" not in (own or ""):
                missing.add(f"{package}.{name}")
    assert missing == WITHOUT


def test_every_public_name_describes_its_arguments():
    """Under Args or Attributes, or by the name of another class or function with the same arguments."""
    missing = set()
    for package, module in PACKAGES.items():
        for name, value in public(module).items():
            if isinstance(value, partial) or f"{package}.{name}" in WITHOUT:
                continue
            named = [each for each in inspect.signature(value).parameters.values() if each.kind not in VARIADIC]
            own = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
            if named and not re.search("Args:|Attributes:|Arguments", own or ""):
                missing.add(f"{package}.{name}")
    assert not missing


def test_the_api_page_shows_every_package():
    page = (CONF.parent / "docs" / "reference" / "api.md").read_text().splitlines()
    assert not [name for name in PACKAGES if f".. automodule:: spectral_repro.{name}" not in page]
    variants = {name for name, value in public(PACKAGES["models"]).items() if isinstance(value, partial)}
    assert not [name for name in variants if f"`{name}`" not in "\n".join(page)]
