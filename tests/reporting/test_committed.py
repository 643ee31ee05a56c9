"""The report of the committed results, as in a fresh clone: from the runs.csv of each paper, with nothing in the cache."""

from pathlib import Path

import pytest

from spectral_repro.configuration.folders import CONF
from spectral_repro.configuration.tables import read_paper
from spectral_repro.reporting.papers import published

RESULTS = CONF.parent / "results"


@pytest.fixture
def report(call, monkeypatch, tmp_path: Path):
    """Runs the report with these runs.csv files and an empty cache; returns the folder it wrote."""

    def run(*arguments: str, papers: list[str]) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        files = ",".join(str(RESULTS / paper / "runs.csv") for paper in papers)
        ended = call("report", *arguments, f"runs=[{files}]", f"results={RESULTS}", "out=made")
        assert not ended.stderr, ended.stderr
        assert ended.returncode == 0
        return tmp_path / "made"

    return run


def test_the_site_and_its_committed_pages(report):
    papers = [paper for paper in published() if (RESULTS / paper / "runs.csv").is_file()]
    made = report(papers=papers)
    assert {path.parent.name for path in made.glob("*/index.html")} == set(published())
    assert len(list(made.glob("runs/*.html"))) == sum(
        len((RESULTS / paper / "runs.csv").read_text().splitlines()) - 1 for paper in papers
    )


def test_a_paper(report):
    made = report("paper=quickstart", papers=["quickstart"])
    written = {path.name for path in made.iterdir()}
    assert {f"{table}.{kind}" for table in read_paper("quickstart")["tables"] for kind in ("md", "tex", "csv")} <= written
    assert {"index.html", "runs.csv", "curves.csv"} <= written and any(name.endswith(".png") for name in written)
