"""Code, commands and links in the README and the documentation work."""

import importlib.util
import re
import shlex
from pathlib import Path
from textwrap import dedent

import pytest

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import CONF, read_yaml
from spectral_repro.configuration.identity import flatten
from spectral_repro.configuration.rules import check

ROOT = CONF.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^ *```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^ +python -m spectral_repro\.train(.*?)(?:#.*)?$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


@pytest.mark.parametrize("page", [page for page in PAGES if CODE.search(page.read_text())], ids=lambda page: page.stem)
def test_code_runs_when_pasted(page: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    for code in CODE.findall(page.read_text()):
        exec(compile(dedent(code), page.name, "exec"), {"__name__": "pasted"})


def test_commands_compose():
    lines = {line for page in PAGES for line in COMMAND.findall(page.read_text())}
    assert len(lines) > 10
    for line in lines:
        words = [word for word in shlex.split(line) if word not in ("-m", "--multirun")]
        if not any(word.startswith("norm=ridge") or "mine2026" in word or "glob(" in word for word in words):
            check(compose([re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in words]))


def test_keys_of_the_settings_compose():
    """The column of command lines beside that of `TrainerSettings`."""
    keys = re.findall(r"^\| `[^`]+` \| `([^`]+)` \|", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    assert len(keys) >= 6
    for line in keys:
        check(compose(shlex.split(line)))


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for link in LINK.findall(page.read_text()):
            there = page.parent / link
            assert there.exists() or link == "reference/configuration.md", f"{page.name}: {link}"


def test_the_readme_is_short():
    assert len(PAGES[0].read_text().splitlines()) <= 120


def test_the_configuration_reference_has_every_key_of_every_command():
    specification = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "configuration.py")
    reference = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reference)
    assert {path.stem for path in CONF.glob("*.yaml")} == set(reference.COMMANDS)
    for path in CONF.glob("*.yaml"):
        content = {key: value for key, value in read_yaml(path).items() if key not in ("defaults", "hydra")}
        keys = re.findall(r"^\| `([\w.]+)` \|", "\n".join(reference.table(path, {})), re.MULTILINE)
        assert keys == list(flatten({key: value or "{}" for key, value in content.items()})), path
    text = "\n".join(reference.table(CONF / "evaluate.yaml", {}))
    assert "| `dataset.root` | `null` |  | null: as in the training |" in text
