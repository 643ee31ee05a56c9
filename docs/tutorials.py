"""Runs the tutorials, scripts with `# %%` cells, and writes each as a page with its output and figures.

python docs/tutorials.py [NAME ...]
"""

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure

TUTORIALS = Path(__file__).parent / "tutorials"
CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """A part of a script: text in Markdown, or code."""

    header: str  # what follows `# %%`: [markdown], or tags=["parameters"] for the constants that a test changes
    source: str

    @property
    def is_text(self) -> bool:
        return "[markdown]" in self.header

    @property
    def has_parameters(self) -> bool:
        return "parameters" in self.header

    @property
    def markdown(self) -> str:
        """The cell as a page shows it, without what it prints."""
        if self.is_text:
            return re.sub(r"^# ?", "", self.source, flags=re.MULTILINE)
        return f"```python\n{self.source}\n```"


def cells(script: Path) -> list[Cell]:
    _, *parts = CELL.split(script.read_text())
    return [Cell(header, source.strip()) for header, source in zip(parts[::2], parts[1::2], strict=True)]


def run(script: Path, **parameters: object) -> Iterator[tuple[Cell, str, list[Figure]]]:
    """Runs the cells in turn, and yields each with what it prints and the figures that it opens.

    Args:
        script: the tutorial.
        parameters: values of the constants in its cell of parameters, instead of those in the script.
    """
    names: dict[str, object] = {"__name__": "tutorial"}
    with matplotlib.rc_context({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False}):
        for cell in cells(script):
            printed = StringIO()
            if not cell.is_text:
                with redirect_stdout(printed):
                    exec(compile(ast.parse(cell.source), f"{script.name}: {cell.source.splitlines()[0]}", "exec"), names)
            if cell.has_parameters:
                assert parameters.keys() <= names.keys(), f"{script.name} has no {parameters.keys() - names.keys()}"
                names |= parameters
            yield cell, printed.getvalue(), [pyplot.figure(number) for number in pyplot.get_fignums()]
            pyplot.close("all")


def write_page(script: Path) -> Path:
    """Runs a tutorial and writes `NAME.md` and `NAME-1.png`, ... next to it."""
    parts, number = [f"<!-- written by: python docs/tutorials.py {script.stem} -->"], 0
    for cell, printed, figures in run(script):
        parts.append(cell.markdown)
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
        for figure in figures:
            number += 1
            picture = script.with_name(f"{script.stem}-{number}.png")
            figure.savefig(picture)
            description = figure.get_label() or figure.axes[0].get_title()
            parts.append(f"![{description}]({picture.name})")
    page = script.with_suffix(".md")
    page.write_text("\n\n".join(parts) + "\n")
    return page


def main() -> None:
    matplotlib.use("agg")
    for name in sys.argv[1:] or sorted(script.stem for script in TUTORIALS.glob("*.py")):
        print(write_page(TUTORIALS / f"{name}.py"))


if __name__ == "__main__":
    main()
