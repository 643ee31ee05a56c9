"""Imports go down only, so that the parts can be used alone."""

import subprocess
import sys

import pytest


def imported_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", [f"spectral_repro.{name}" for name in ("linalg", "layers", "models", "optim")])
def test_the_spectral_parts_need_torch_alone(module: str):
    assert not {"hydra", "omegaconf", "pandas", "torchvision", "sklearn"} & imported_by(module)


def test_linalg_knows_nothing_above_it():
    above = {name for name in imported_by("spectral_repro.linalg") if name.startswith("spectral_repro.")}
    assert all(name.startswith("spectral_repro.linalg") for name in above)


def test_a_wrong_value_is_found_without_torch():
    assert "torch" not in imported_by("spectral_repro.train")
