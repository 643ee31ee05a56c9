"""The project finds its files as a checkout, an editable install and a wheel, wherever it is started."""

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose

ROOT = Path(__file__).resolve().parent.parent


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, capture_output=True, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a virtual environment that has what the project needs, and the project as pip installs it from the arguments."""

    def make(*installed: object) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
        if installed:
            options = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
            pip("--python", folder / "bin" / "python", "install", *options, *installed)
        return folder

    return make


def run(*command: object, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=inherited | variables, capture_output=True, text=True)


def check_commands(train: list[object], report: list[object], folder: Path, **variables: str) -> None:
    """What the two commands say where there is nothing but the project."""
    result = run(*train, "--cfg", "job", "norm=zca_pi", folder=folder, **variables)
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert OmegaConf.create(result.stdout) == compose(["norm=zca_pi"])
    result = run(*report, folder=folder, **variables)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "no such folder; runs are made by python -m spectral_repro.train -m paper=" in result.stderr
    assert not list(folder.iterdir())


def modules(environment: Path) -> tuple[list[object], list[object]]:
    python = environment / "bin" / "python"
    return [python, "-m", "spectral_repro.train"], [python, "-m", "spectral_repro.report"]


def imported_from(environment: Path, folder: Path, **variables: str) -> Path:
    code = "import spectral_repro; print(spectral_repro.__file__)"
    return Path(run(environment / "bin" / "python", "-c", code, folder=folder, **variables).stdout.strip())


def test_the_wheel_holds_package_and_configuration_alone(wheel: Path):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    parts = [path for part in ("spectral_repro", "hydra_plugins") for path in (ROOT / part).rglob("*")]
    package = [path for path in parts if path.is_file() and path.suffix != ".pyc"]
    configuration = [path for path in (ROOT / "conf").rglob("*") if path.is_file()]
    expected = [path.relative_to(ROOT).as_posix() for path in package]
    expected += [f"spectral_repro/{path.relative_to(ROOT).as_posix()}" for path in configuration]
    assert sorted(names) == sorted(expected)
    assert "spectral_repro/conf/train.yaml" in names and "spectral_repro/reporting/templates/paper.html.j2" in names


def test_from_a_wheel(wheel: Path, environment, tmp_path: Path):
    installed = environment(wheel)
    assert imported_from(installed, tmp_path).is_relative_to(installed)
    check_commands(*modules(installed), tmp_path)


def test_from_an_editable_install(environment, tmp_path: Path):
    installed = environment("--editable", ROOT)
    assert imported_from(installed, tmp_path).is_relative_to(ROOT)
    assert not list(installed.glob("lib/python*/site-packages/spectral_repro")), "a copy that edits do not reach"
    scripts = [installed / "bin" / "spectral-repro-train"], [installed / "bin" / "spectral-repro-report"]
    check_commands(*scripts, tmp_path)


def test_from_a_checkout(environment, tmp_path: Path):
    dependencies, path = environment(), str(ROOT)
    assert imported_from(dependencies, tmp_path, PYTHONPATH=path).is_relative_to(ROOT)
    check_commands(*modules(dependencies), tmp_path, PYTHONPATH=path)
