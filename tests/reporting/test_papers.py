"""Papers and their published values, read from files."""

import shlex
from collections.abc import Callable

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import CONF
from spectral_repro.configuration.identity import identity
from spectral_repro.configuration.rules import check
from spectral_repro.configuration.tables import read_paper
from spectral_repro.errors import UserError
from spectral_repro.reporting import papers
from spectral_repro.reporting.claims import read_claim
from spectral_repro.reporting.papers import Axis, load_paper, supply
from spectral_repro.reporting.protocols import split
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.tables import PUBLISHED, aggregate


def anew(keys: dict, compute: Callable, mapper: Callable) -> dict:
    """In the place of `cached`: computes everything."""
    return dict(zip(keys, mapper(compute, keys), strict=True))


PAPERS = sorted(path.stem for path in (CONF / "paper").glob("*.yaml"))


def settings(**tables: dict) -> DictConfig:
    return OmegaConf.create(
        {"name": "quickstart", "title": "", "source": "", "compare": ["norm"], "metric": "test_accuracy", "tables": tables}
    )


@pytest.mark.parametrize("name", PAPERS)
def test_rows_of_a_paper_have_different_values(name, composed, monkeypatch):
    """And those that are composed once for several rows have the values of a composition of their own."""
    monkeypatch.setattr(papers, "compose", lambda overrides: composed(*overrides))
    monkeypatch.setattr(papers, "cached", anew)
    paper = load_paper(read_paper(name))
    assert paper.name == name and paper.tables
    for table in paper.tables:
        for row in table.rows:
            config = composed(*row.overrides)
            assert split(identity(config), paper.compare)[0] == row.values
            if config.get("init", {}).get("checkpoint", "") is None:
                config.init.checkpoint = "best.pt"  # what is left to the command line
            check(config)
        assert len(table.rows) == len({(str(sorted(row.values.items())), row.over) for row in table.rows})
        assert len(table.rows) == len({row.label for row in table.rows})
        known = {"median", *PUBLISHED, *(metric.name for metric in table.also)}
        assert all(row.published.keys() <= known for row in table.rows)


def test_the_command_of_a_row_composes_to_the_row(paper):
    for row in paper.tables[0].rows:
        python, option, module, *overrides = shlex.split(row.command())
        assert (python, option, module) == ("python", "-m", "spectral_repro.train")
        assert split(identity(compose(overrides)), paper.compare) == (row.values, paper.tables[0].protocol)


def test_commands_are_quoted_for_a_shell(paper):
    command = paper.tables[0].rows[0].command("dataset.root=my data")
    assert shlex.split(command)[-1] == "dataset.root=my data"


def test_values_that_were_not_published_are_left_out(paper):
    assert [row.published for row in paper.tables[0].rows] == [
        {"mean": 90.0, "std": 0.5, "best": 91.0},
        {"success_rate": 0.0},
        {},
    ]


def test_a_table_has_the_metric_of_its_paper_by_default(sizes_paper):
    assert [(table.name, table.metric.name) for table in sizes_paper.tables] == [
        ("sizes", "test_accuracy"),
        ("times", "step_time"),
    ]


def test_rows_on_and_off_the_axis(sizes_paper):
    sizes, times = sizes_paper.tables
    assert (sizes.axis, times.axis) == (Axis("Group size d", log=True), None)
    assert [(row.series, row.at) for row in sizes.rows] == [(None, None), ("SVD", 4), ("SVD", 8), ("PI", 4), ("PI", 8)]
    assert (sizes.series, sizes.references) == (["SVD", "PI"], ["Batch norm"])


def test_a_row_of_several_tables_is_composed_once(monkeypatch):
    composed = []
    monkeypatch.setattr(papers, "compose", lambda overrides: composed.append(overrides) or compose(overrides))
    monkeypatch.setattr(papers, "cached", anew)
    rows = [{"label": norm, "overrides": [f"norm={norm}"]} for norm in ("batch", "zca")]
    paper = load_paper(settings(one={"title": "", "rows": rows}, two={"title": "", "rows": rows[1:]}))
    assert composed == [("norm=batch",), ("norm=zca",)]
    assert paper.tables[0].rows[1].values == paper.tables[1].rows[0].values


def test_tables_without_matching_runs_are_not_composed(make_run, read, monkeypatch):
    make_run("norm=batch")
    composed = []
    monkeypatch.setattr(papers, "compose", lambda overrides: composed.append(overrides) or compose(overrides))
    monkeypatch.setattr(papers, "cached", anew)
    rows = {
        name: [{"label": norm, "overrides": [f"norm={norm}", *others]} for norm in ("batch", "zca")]
        for name, others in {"digits": [], "mlp": ["model=mlp"], "cars": ["model=resnet50", "dataset=cars"]}.items()
    }
    tables = settings(**{name: {"title": "", "rows": own} for name, own in rows.items()})
    paper = load_paper(tables, read())
    assert len(composed) == 5, "of cars, another data set for another network, the first row alone"
    digits, mlp, cars = paper.tables
    assert [row.values is None for table in (digits, mlp, cars) for row in table.rows] == [False] * 4 + [False, True]
    runs = read()
    found, expected = (
        [[(entry.row.label, entry.runs) for entry in section.entries] for section in gather(each, runs).sections]
        for each in (paper, load_paper(tables))
    )
    assert found == expected and runs == [run for section in found for _, own in section for run in own]


ROW = {"label": "A", "overrides": ["norm=batch"]}
POINT = ROW | {"series": "S", "at": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"metric": "speed", "rows": [POINT]}, r"metric=speed: must be one of train_loss, .*step_time"),
        ({"also": ["speed"], "rows": [POINT]}, r"metric=speed: must be one of train_loss, .*step_time"),
        ({"rows": [POINT]}, "an axis needs rows with series and at, and such rows"),
        ({"axis": {"label": "d"}, "rows": [POINT | {"series": None, "at": None}]}, "such rows need an axis"),
        ({"axis": {"label": "d"}, "rows": [POINT | {"at": None}]}, "row A has only one of series and at"),
        ({"axis": {"label": "d", "log": True}, "rows": [POINT | {"at": 0}]}, "row A has at=0; a logarithmic axis"),
        ({"axis": {"label": "d", "log": True}, "rows": [POINT | {"at": "4"}]}, "row A has at=4; it must be a number"),
        (
            {"axis": {"label": "d", "logarithmic": True}, "rows": [POINT]},
            "axis: logarithmic: no such key; there are label, log",
        ),
        ({"axis": {"log": True}, "rows": [POINT]}, "axis: needs label"),
        ({"rows": [ROW, ROW | {"overrides": ["norm=zca"]}]}, "several rows have the label A"),
        ({"rows": [ROW | {"published": {"accuracy": 97}}]}, "A: accuracy is unknown; known are median, mean, "),
        ({"rows": [ROW | {"published": {"mean": "97 %"}}]}, "A.mean=97 %: must be a number"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_refused(table, message):
    with pytest.raises(UserError, match=f"paper=quickstart: in table t, .*{message}"):
        load_paper(settings(t={"title": ""} | table))


@pytest.mark.parametrize(("name", "other"), [("runs", "runs_table"), ("sub/a", "sub_a")])
def test_a_table_is_not_called_like_another_file_of_a_report(name, other):
    rows = [{"label": "A", "overrides": ["norm=batch"]}]
    with pytest.raises(UserError, match=f"in table {name}, its name cannot be used for files; rename it to {other}.yaml"):
        load_paper(settings(**{name: {"title": "", "rows": rows}}))


def test_rows_that_differ_in_keys_not_compared_are_refused():
    rows = [{"label": "A", "overrides": ["norm=batch"]}, {"label": "B", "overrides": ["norm=zca", "optimizer.lr=0.5"]}]
    with pytest.raises(UserError, match=r"table t,.*A and B differ in optimizer\.lr.*paper\.compare"):
        load_paper(settings(t={"title": "", "rows": rows}))


@pytest.fixture
def quickstart():
    row = {"label": "Batch norm", "overrides": ["norm=batch"]}
    tables = {"digits": {"title": "Digits", "rows": [row, {"label": "PI", "overrides": ["norm=zca_pi"]}]}}
    settings = {"name": "quickstart", "title": "T", "source": "S", "compare": ["norm"], "metric": "test_accuracy"}
    return load_paper({**settings, "tables": tables})


@pytest.fixture
def file(tmp_path):
    def write(content: object) -> object:
        (tmp_path / "own.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return tmp_path / "own.yaml"

    return write


def test_published_values_of_the_user(quickstart, file, make_run, read):
    make_run("norm=batch", accuracies=[50.0, 92.0])
    rows = {"Batch norm": {"mean": 90.5, "std": 0.25}}
    paper = supply(quickstart, file({"quickstart": {"digits": {"source": "Table 3", "rows": rows}}, "wang2019": {}}))
    (section,) = gather(paper, read()).sections
    frame = aggregate(section).set_index("method")
    assert frame.loc["Batch norm", ["published_mean", "published_std", "difference"]].tolist() == [90.5, 0.25, 1.5]
    assert frame["published_mean"].isna().tolist() == [False, True]
    assert section.table.source == "Table 3"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"wang": {}}, "wang is unknown; known are"),
        ({"quickstart": {"digit": {}}}, "quickstart: digit is unknown; known are digits"),
        ({"quickstart": {"digits": {"rows": {"Batch": {}}}}}, "digits.rows: Batch is unknown; known are Batch norm, PI"),
        ({"quickstart": {"digits": {"rows": {"PI": {"average": 1}}}}}, "PI: average is unknown; known are median, mean, std"),
        ({"quickstart": {"digits": {"rows": {"PI": {"mean": "1 %"}}}}}, "PI.mean=1 %: must be a number"),
        ({"quickstart": {"digits": [1]}}, "quickstart.digits: must be keys with values"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_errors_in_the_published_values_of_the_user(quickstart, file, content, words):
    with pytest.raises(UserError, match=words) as error:
        supply(quickstart, file(content))
    assert "own.yaml" in str(error.value) and "\n" not in str(error.value)


NUMBER = {"table": "digits", "row": ["PI"], "at_least": 1}


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"claim": "C", "numbers": [NUMBER | {"row": "PI"}]}, r"number 1: row=PI: must be a list of labels, such as \[PI\]"),
        ({"claim": "C", "numbers": [{**NUMBER, "at_lest": 1}]}, "number 1: at_lest: no such key; there are at_least, at_most"),
        ({"claim": "C", "numbers": [{"table": "digits", "row": ["PI"]}]}, "number 1: needs a bound, at_least or at_most"),
        ({"claim": "C", "numbers": [NUMBER | {"at_least": "1 %"}]}, "number 1: at_least=1 %: must be a number"),
        ({"claim": "C", "numbers": [{"at_least": 1}]}, "number 1: needs table; a number has table and row, or file"),
        ({"claim": "C", "numbers": [{"file": "a.csv", "at_least": 1}]}, "number 1: needs where; "),
        ({"claim": "C", "numbers": [NUMBER | {"metric": "speed"}]}, "number 1: metric=speed: must be one of success, "),
        (
            {"claim": "C", "numbers": [NUMBER | {"difference_to": ["B"]}]},
            r"difference_to=\['B'\]: must be the label of one row",
        ),
        ({"claim": "C", "numbers": [NUMBER | {"ratio_to": {"row": "B"}}]}, "ratio_to=.*: must be the label of one row"),
        ({"claim": "C", "numbers": [NUMBER | {"ratio_to": "B", "difference_to": "B"}]}, "has difference_to and ratio_to"),
        ({"claim": "C", "numbers": [NUMBER | {"column": "ms"}]}, "number 1: column has no effect here"),
        ({"claim": "C"}, "c: needs numbers"),
        ({"claim": "C", "numbers": NUMBER}, "must be a list of numbers with their bounds"),
        ({"numbers": [NUMBER]}, "c: needs claim"),
        ({"claim": "C", "nubmers": [], "numbers": [NUMBER]}, "c: nubmers: no such key; there are claim, numbers"),
        ("a text", "c: must be keys with values"),
    ],
)
def test_claims_that_cannot_be_read(claim, words):
    with pytest.raises(UserError, match=words) as error:
        read_claim("paper=quickstart: in claim", "c", claim)
    assert str(error.value).startswith("paper=quickstart: in claim c")


def test_published_values_in_scientific_notation(quickstart, file):
    paper = supply(quickstart, file("quickstart: {digits: {rows: {PI: {std: 1e-3}}}}"))
    assert paper.tables[0].rows[1].published == {"std": 0.001}
