import shlex

import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import CONF, compose
from spectral_repro.configuration.identity import identity
from spectral_repro.errors import UserError
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.protocols import split

PAPERS = sorted(path.stem for path in (CONF / "paper").glob("*.yaml"))


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_tells_its_rows_apart(name):
    paper = load_paper(compose([f"paper={name}"]).paper)
    assert paper.name == name and paper.tables
    for table in paper.tables:
        assert len(table.rows) == len({str(sorted(row.values.items())) for row in table.rows})
        assert len(table.rows) == len({row.label for row in table.rows})
        assert all(row.published.keys() <= {"mean", "std", "best", "success_rate"} for row in table.rows)


def test_the_command_of_a_row_composes_to_the_row(paper):
    for row in paper.tables[0].rows:
        python, option, module, *overrides = shlex.split(row.command())
        assert (python, option, module) == ("python", "-m", "spectral_repro.train")
        assert split(identity(compose(overrides)), paper.compare) == (row.values, paper.tables[0].protocol)


def test_the_command_survives_a_shell(paper):
    command = paper.tables[0].rows[0].command("dataset.root=my data")
    assert shlex.split(command)[-1] == "dataset.root=my data"


def test_what_is_not_published_is_left_out(paper):
    assert [row.published for row in paper.tables[0].rows] == [
        {"mean": 90.0, "std": 0.5, "best": 91.0},
        {"success_rate": 0.0},
        {},
    ]


def test_no_paper_lists_the_papers():
    with pytest.raises(UserError, match=r"paper=null.*quickstart, wang2019"):
        load_paper(None)


def test_rows_that_differ_in_what_is_not_compared_are_refused():
    rows = [{"label": "A", "overrides": ["norm=batch"]}, {"label": "B", "overrides": ["norm=zca", "optimizer.lr=0.5"]}]
    settings = {"name": "quickstart", "title": "", "source": "", "compare": ["norm"], "metric": "test_accuracy"}
    with pytest.raises(UserError, match=r"table t.*A and B differ in optimizer\.lr.*paper\.compare"):
        load_paper(OmegaConf.create(settings | {"tables": {"t": {"title": "", "rows": rows}}}))
