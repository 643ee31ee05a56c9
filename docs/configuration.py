"""The configuration reference, made from the files of conf/ and the signatures of the classes that they name."""

import re
from pathlib import Path

from spectral_repro.configuration.arguments import parameters, rule_of
from spectral_repro.configuration.folders import read_yaml
from spectral_repro.configuration.rules import RULES
from spectral_repro.configuration.targets import locate

DESCRIBED_ELSEWHERE = ("claim", "hydra", "paper", "protocol", "table")
COMMANDS = ("train", "evaluate", "predict", "report", "bench")
OF_HYDRA = ("defaults", "hydra")
KEY = re.compile(r"(?P<indent> *)(?P<key>[a-z]\w*):(?: +(?P<default>[^#\s].*?))?(?: +# *(?P<meaning>.*))?$")


def configuration_reference(conf: Path) -> str:
    """Keys of every command and of every option of every group: default, what is allowed and meaning, in Markdown."""
    lines = ["# Configuration", "", "Made from `conf/` and the signatures of the classes that it names."]
    lines += ["", "## Keys of the commands", ""]
    for command in COMMANDS:
        lines += [f"### spectral_repro.{command}", "", *table(conf / f"{command}.yaml", rules={})]
    lines += ["## Options of the groups", ""]
    for group in sorted(folder for folder in conf.iterdir() if folder.is_dir() and folder.name not in DESCRIBED_ELSEWHERE):
        lines += [f"### {group.name}", ""]
        for file in sorted(group.glob("*.yaml")):
            target = (read_yaml(file) or {}).get("_target_")
            lines += [f"#### `{group.name}={file.stem}`", "", *about(file, target), *table(file, allowed(group.name, target))]
    return "\n".join(lines) + "\n"


def about(file: Path, target: str | None) -> list[str]:
    """The comment at the head of a file, and the class that it builds."""
    comments = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            comments.append(line.lstrip("# "))
    words = " ".join(comments)
    words = words[:1].upper() + words[1:] + "." * (bool(words) and not words.endswith("."))
    return [f"{words} Builds `{target}`.".strip() if target else words, ""] if words or target else []


def allowed(group: str, target: str | None) -> dict[str, str]:
    """What each key may be, in words."""
    prefix = f"{group}."
    words = {key.removeprefix(prefix): rule.allowed for key, rule in RULES.items() if key.startswith(prefix)}
    if target:
        annotations, _ = parameters(locate(target, f"{group}._target_"))
        words |= {name: rule.allowed for name, annotation in annotations.items() if (rule := rule_of(annotation))}
    return words


def table(file: Path, rules: dict[str, str]) -> list[str]:
    """The keys of a file, with dots for nested ones, except those that take the value of the key above."""
    rows: list[str] = []
    around: dict[int, re.Match] = {}  # the last key at each indentation
    for line in file.read_text().splitlines():
        if not (found := KEY.match(line)):
            continue
        around = {indent: parent for indent, parent in around.items() if indent < len(found["indent"])}
        around[len(found["indent"])] = found
        names = [each["key"] for each in around.values()]
        if found["default"] and names[0] not in OF_HYDRA and not found["default"].startswith("${.."):
            meaning = next((each["meaning"] for each in reversed(around.values()) if each["meaning"]), "")
            key = ".".join(names)
            cells = (f"`{key}`", f"`{found['default']}`", rules.get(key, ""), meaning)
            rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return ["| key | default | allowed | meaning |", "|---|---|---|---|", *rows, ""] if rows else []
