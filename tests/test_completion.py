"""Shell completion of the console scripts in bash, where torch cannot be imported: a press of TAB does not wait for it."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from spectral_repro.configuration.folders import CONF
from spectral_repro.configuration.groups import options

ROOT = CONF.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Runs lines of bash with the console scripts on the path, and returns what they print."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "torch.py").write_text("raise RuntimeError('torch is slow to import')")
    for name, entry in SCRIPTS.items():
        module, function = entry.split(":")
        script = folder / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": f"{folder}:{ROOT}"}

    def run(lines: str) -> list[str]:
        result = subprocess.run(["bash", "--norc", "-c", lines], cwd=folder, env=env, capture_output=True, text=True)
        assert result.returncode == 0 and not result.stderr, result.stderr
        return result.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def installed(bash) -> str:
    """What --shell-completion install=bash prints for both scripts, for eval."""
    return "\n".join(line for name in SCRIPTS for line in bash(f"{name} --shell-completion install=bash"))


def named(group: str, start: str = "") -> list[str]:
    return [f"{group}={option}" for option in options(group) if option.startswith(start)]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("spectral-repro-train norm=zca", named("norm", "zca")),
        ("spectral-repro-train exper", ["experiment="]),
        ("spectral-repro-train experiment=wang2019/resnet18_z", named("experiment", "wang2019/resnet18_z")),
        ("spectral-repro-train -m scale=smoke norm=zca norm.group", ["norm.group_size="]),
        ("spectral-repro-report paper=", named("paper")),
    ],
)
def test_tab(bash, installed: str, line: str, offered: list[str]):
    """The function that bash calls, with the variables that bash sets."""
    word = len(line.split()) - 1
    variables = f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={word}"
    press = f'{variables}; hydra_bash_completion; printf "%s\\n" "${{COMPREPLY[@]}}"'
    assert offered and bash(f"{installed}\n{press}") == offered


def test_both_scripts_are_registered(bash, installed: str):
    registered = bash(f"{installed}\ncomplete -p")
    assert {line.split()[-1] for line in registered if "-F hydra_bash_completion" in line} == set(SCRIPTS)


def test_uninstalled(bash, installed: str):
    after = 'eval "$(spectral-repro-train --shell-completion uninstall=bash)"; declare -F | grep -c hydra || true'
    assert bash(f"{installed}\n{after}") == ["0"]


def test_sweeps_find_options_in_folders():
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        (override,) = parser.parse_overrides(["experiment=glob(wang2019/resnet18_zca*)"])
    found = [f"experiment={option}" for option in override.sweep_iterator()]
    assert found and found == named("experiment", "wang2019/resnet18_zca")
