"""What the README says holds."""

import re
import shlex
from pathlib import Path

import pytest

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import CONF
from spectral_repro.configuration.rules import check

README = (CONF.parent / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^    python -m spectral_repro\.train(.*?)(?:#.*)?$", README, re.MULTILINE)
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)


@pytest.mark.parametrize("code", CODE)
def test_code_runs_when_pasted(code: str):
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_compose(line: str):
    words = [word for word in shlex.split(line) if word not in ("-m", "--multirun")]
    singles = [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in words]
    check(compose(singles))


@pytest.mark.parametrize(("group", "options", "example"), ROWS, ids=[row[0] for row in ROWS])
def test_the_map_of_groups_is_complete(group: str, options: str, example: str):
    listed = set(re.findall(r"`([\w/.]+)`", options))
    place = CONF / ("table" if group == "experiment" else group)
    there = {path.stem for path in place.glob("*.yaml")} | {f"{path.name}/..." for path in place.glob("*/")}
    assert listed == there
    for words in re.findall(r"`(.*?)`", example):
        if "=" in words:
            check(compose([re.sub(r"=(\d),.*", r"=\1", word) for word in words.split() if word != "-m"]))


def test_every_group_is_on_the_map():
    assert {path.name for path in Path(CONF).iterdir() if path.is_dir()} | {"experiment"} == {row[0] for row in ROWS}


def test_the_table_is_that_of_results_quickstart():
    (_, *table) = (CONF.parent / "results" / "quickstart" / "digits.md").read_text().split("\n\n")
    assert table[0] in README
