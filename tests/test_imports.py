"""Imports go down only, so that parts can be used alone, and slow packages are imported only when they are needed."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = {"torch": "import torch"}
STEPS |= {name: f"import spectral_repro.{name}" for name in ("linalg", "layers", "models", "optim", "data")}
BOUNDS = {"annotated_types"}  # of arguments, in signatures
STEPS |= {"digits": "spectral_repro.data.digits()", "training": "import spectral_repro.train, spectral_repro.training.execute"}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """The modules that are there after each of the steps, which one process takes in turn."""
    lines = [f"{step}; modules[{name!r}] = list(sys.modules)" for name, step in STEPS.items()]
    code = "\n".join(["import json, sys", "modules = {}", *lines, "print(json.dumps(modules))"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name: set(modules) for name, modules in json.loads(result.stdout).items()}


@pytest.mark.parametrize(("name", "also"), [("linalg", set()), ("layers", set()), ("models", BOUNDS), ("optim", BOUNDS)])
def test_the_spectral_parts_need_torch_alone(imported, name: str, also: set[str]):
    packages = {module.partition(".")[0] for module in imported[name] - imported["torch"]}
    assert packages - sys.stdlib_module_names - {"torch"} - also == {"spectral_repro"}


def test_linalg_knows_nothing_above_it(imported):
    above = {name for name in imported["linalg"] if name.startswith("spectral_repro.")}
    assert all(name.startswith("spectral_repro.linalg") for name in above)


def test_packages_for_a_data_set_are_imported_when_it_is_loaded(imported):
    assert not {"torchvision", "sklearn", "pandas", "PIL"} & imported["data"]
    assert not {"sklearn", "scipy", "pandas"} & imported["digits"]


def test_tables_and_figures_stay_out_of_training(imported):
    assert not {"pandas", "matplotlib", "sklearn"} & imported["training"]


def test_a_wrong_value_is_found_without_torch():
    code = "import sys, spectral_repro.train; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_table_of_the_design_page_says_what_each_package_imports():
    root = Path(__file__).parent.parent
    rows = re.findall(r"^\| `spectral_repro/(\w+)` \|.*\|(.*)\|$", (root / "docs" / "design.md").read_text(), re.MULTILINE)
    table = {name: re.findall(r"`(\w+)`", column) for name, column in rows}
    above: list[str] = []
    for name, imports in table.items():
        code = (ast.parse(path.read_text()) for path in (root / "spectral_repro" / name).rglob("*.py"))
        found = {part for module in code for part in imported_on_top(module)} - {name}
        assert imports == [each for each in above if each in found], name
        assert not found & (table.keys() - {*above}), f"{name} imports a package below it"
        above.append(name)
    assert table.keys() == {path.parent.name for path in (root / "spectral_repro").glob("*/__init__.py")}


def imported_on_top(module: ast.Module) -> set[str]:
    """The parts of spectral_repro that a module imports outside of functions."""
    names: set[str] = set()
    for statement in module.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "spectral_repro":
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add((statement.module or "").removeprefix("spectral_repro.").partition(".")[0])
        elif isinstance(statement, ast.Import):
            names |= {alias.name.removeprefix("spectral_repro.").partition(".")[0] for alias in statement.names}
    return names
