"""Rows of tables are experiments, in conf/ and in a user's folder."""

from pathlib import Path

import pytest
import yaml

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import OWN_FOLDERS
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import digest, identity
from spectral_repro.configuration.tables import read_paper, read_table
from spectral_repro.errors import UserError


@pytest.fixture
def write(tmp_path: Path, monkeypatch):
    """Writes files into a user's folder that is read beside conf/; returns the folder."""

    def put(**files: object) -> Path:
        for name, content in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content))
        monkeypatch.setenv(OWN_FOLDERS, str(tmp_path))
        return tmp_path

    return put


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        ("quickstart/zca_svd", ["model.width=16", "norm=zca_svd"]),
        (
            "wang2019/resnet18_zca_svd_cut_d8",
            ["dataset=cifar10", "norm=zca_svd", "norm.group_size=8", "norm.truncation=reference"],
        ),
        (
            "wang2019/resnet18_pca_info99.5",
            ["dataset=cifar10", "norm=pca_pi", "norm.components=null", "norm.information=0.995"],
        ),
        ("song2021/cifar10_topn", ["+protocol=song2021_cifar10", "backward=topn", "pooling=gcp", "backward.n=4"]),
        (
            "song2021/imagenet_resnet101_svd_hybrid",
            [
                "+protocol=song2021_imagenet_resnet50",
                "model=resnet101_large",
                "backward=hybrid",
                "backward@backward.second=svd",
            ],
        ),
        (
            "cho2017/svhn_wrn22_8_sgd",
            [
                *("+protocol=cho2017_svhn", "model=wrn22_8", "model.dropout=0.4", "model.gain=2"),
                *("optimizer=sgd", "optimizer.lr=0.01", "optimizer.nesterov=true"),
            ],
        ),
        (
            "daneshmand2021/figure3_initial_svd_w800",
            [
                *("+protocol=daneshmand2021_figure3_initial", "init@study.init=svd", "study.width=800"),
                *("study.init.images=2400", "study.init.layers=linear"),
            ],
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_row_is_what_its_overrides_are_on_the_command_line(experiment: str, overrides: list[str]):
    assert digest(identity(compose([f"experiment={experiment}"]))) == digest(identity(compose(overrides)))


TABLE = {
    "title": "Two group sizes",
    "protocol": "quickstart",
    "overrides": ["norm=zca"],
    "rows": [
        {"name": "plain", "label": "Batch norm", "overrides": ["norm=batch"]},
        {
            "grid": {"backward": ["pi", "exact"], "d": [4, 8]},
            "name": "{backward}_d{d}",
            "label": "{backward}, d = {d}",
            "overrides": ["backward={backward}", "norm.group_size={d}"],
            "series": "{backward}",
            "at": "{d}",
            "published": {"mean": [90.0, None, 92.5, 93.0], "success_rate": 100},
        },
    ],
}


def test_a_grid_is_a_row_for_each_combination(write):
    folder = write(table__mine2026__sizes=TABLE)
    rows = read_table(folder / "table/mine2026/sizes.yaml")["rows"]
    assert [row["name"] for row in rows] == ["plain", "pi_d4", "pi_d8", "exact_d4", "exact_d8"]
    assert rows[2] == {
        "name": "pi_d8",
        "label": "pi, d = 8",
        "overrides": ["backward=pi", "norm.group_size=8"],
        "series": "pi",
        "at": 8,
        "published": {"success_rate": 100},
    }
    assert rows[3]["published"] == {"mean": 92.5, "success_rate": 100}


@pytest.mark.parametrize("written", ["1e-05", "1.0e-05"])
def test_the_place_of_a_row_of_a_grid_is_a_number(write, written):
    folder = write(table__mine2026__sizes=TABLE)
    path = folder / "table/mine2026/sizes.yaml"
    path.write_text(path.read_text().replace("- 4\n", f"- {written}\n", 1))
    assert read_table(path)["rows"][1]["at"] == 1e-05


def test_rows_of_a_folder_of_ones_own_are_experiments(write):
    write(table__mine2026__sizes=TABLE)
    own = [f"mine2026/{name}" for name in ("exact_d4", "exact_d8", "pi_d4", "pi_d8", "plain")]
    assert [name for name in options("experiment") if name.startswith("mine2026/")] == own
    assert compose(["experiment=mine2026/pi_d8"]) == compose(["model.width=16", "norm=zca", "backward=pi", "norm.group_size=8"])
    assert compose(["experiment=mine2026/plain"]).norm._target_ == "torch.nn.BatchNorm2d"


PAPER = {"name": "mine2026", "title": "Mine", "source": "", "compare": ["norm"], "metric": "test_accuracy"}


def test_a_row_without_overrides_is_one_of_another_table(write):
    times = {"title": "Times", "metric": "step_time", "rows": [{"name": "pi_d4", "label": "PI, d = 4"}]}
    write(
        paper__mine2026={"paper": PAPER | {"tables": ["times", "sizes"]}},
        table__mine2026__sizes=TABLE,
        table__mine2026__times=times,
        claim__mine2026={"holds": {"claim": "It works.", "numbers": []}},
    )
    paper = read_paper("mine2026")
    assert list(paper["tables"]) == ["times", "sizes"] and list(paper["claims"]) == ["holds"]
    assert paper["tables"]["times"]["rows"][0]["overrides"] == ["experiment=mine2026/pi_d4"]


def changed(**row: object) -> dict[str, object]:
    return {**TABLE, "rows": [{**TABLE["rows"][1], **row}]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**TABLE, "rows": [{"label": "A"}]}, "sizes.yaml: row 1: needs a name"),
        ({**TABLE, "rows": [{"name": "a", "label": "A", "lable": "A"}]}, "row 1: lable: no such key; there are name, label"),
        ({**TABLE, "metrics": []}, "sizes.yaml: metrics: no such key; there are title, metric"),
        ({**TABLE, "rows": []}, "sizes.yaml: needs a title and rows"),
        (changed(label="{size}"), r"row 1: 'size' is not a name of its grid \(backward, d\)"),
        (changed(published={"mean": [1.0]}), "row 1: published.mean has 1 values for 4 rows"),
        (changed(name="same"), "row same: another row of mine2026 has this name and other overrides"),
        (changed(overrides="norm=zca"), "overrides=.*: must be a list of strings such as norm=zca"),
        ({**TABLE, "rows": [{"name": "a", "label": "A"}]}, "row a: no table of mine2026 gives its overrides"),
        ({**TABLE, "rows": [{"name": "a", "label": "A", "overrides": ["seed=0,1"]}]}, "seed=0,1: must be key=value or group"),
        ({**TABLE, "rows": [{"name": "a", "label": "A", "overrides": ["norm"]}]}, "a: norm: .*"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_table_that_is_wrong_is_answered_in_one_line(table: dict, message: str, write):
    write(paper__mine2026={"paper": PAPER | {"tables": ["sizes"]}}, table__mine2026__sizes=table)
    with pytest.raises(UserError, match=message) as error:
        read_paper("mine2026")
        compose(["experiment=mine2026/a"])
    assert len(str(error.value).splitlines()) == 1


def test_an_unknown_row_is_answered_with_those_there_are(call, write):
    write(table__mine2026__sizes=TABLE)
    result = call("train", "experiment=mine2026/none")
    assert result.returncode == 1 and "mine2026/exact_d4" in result.stderr
