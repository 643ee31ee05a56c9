"""The tutorials run, here with few epochs and images, and their pages show the scripts as they are."""

import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from spectral_repro.configuration.folders import CONF

DOCS = CONF.parent / "docs"
SMALL: dict[str, dict[str, object]] = {
    "bounded": {"EPOCHS": 1, "IMAGES": 48, "ITERATIONS": 2},
    "gradients": {"MATRICES": 2, "GAPS": 3},
    "own_network": {"EPOCHS": 1},
    "sweep": {"GROUP_SIZES": "4", "SEEDS": "0", "EPOCHS": 1, "IMAGES": 64},
}


@pytest.fixture
def tutorials(monkeypatch: pytest.MonkeyPatch):
    """docs/tutorials.py, which is no part of the package."""
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.delitem(sys.modules, "tutorials", raising=False)
    import tutorials

    return tutorials


def scripts() -> list[Path]:
    return sorted((DOCS / "tutorials").glob("*.py"))


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.stem)
def test_runs_and_its_page_is_up_to_date(tutorials, script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    figures: list[Figure] = []
    page = script.with_suffix(".md").read_text()
    for cell, _, drawn in tutorials.run(script, **SMALL[script.stem]):
        assert cell.markdown in page, f"python docs/tutorials.py {script.stem} writes the page again"
        figures += drawn
    assert len(figures) == len(list(script.parent.glob(f"{script.stem}-*.png"))) == page.count("](" + script.stem) > 0
    assert not list(tmp_path.iterdir())
