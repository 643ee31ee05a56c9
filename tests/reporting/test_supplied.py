import pytest
import yaml

from spectral_repro.errors import UserError
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.supplied import supply
from spectral_repro.reporting.tables import aggregate


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


def test_values_of_the_user_stand_in_the_published_column(quickstart, file, make_run, read):
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
        ({"wang": {}}, "no wang there; there are"),
        ({"quickstart": {"digit": {}}}, "quickstart: no digit there; there are digits"),
        ({"quickstart": {"digits": {"rows": {"Batch": {}}}}}, "digits.rows: no Batch there; there are Batch norm, PI"),
        ({"quickstart": {"digits": {"rows": {"PI": {"average": 1}}}}}, "PI: no average there; there are median, mean, std"),
        ({"quickstart": {"digits": {"rows": {"PI": {"mean": "1 %"}}}}}, "PI.mean=1 %: must be a number"),
        ({"quickstart": {"digits": [1]}}, "quickstart.digits: must be names with what belongs to them"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_what_does_not_fit_is_named(quickstart, file, content, words):
    with pytest.raises(UserError, match=words) as error:
        supply(quickstart, file(content))
    assert "own.yaml" in str(error.value) and "\n" not in str(error.value)
