import shlex

import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import identity
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.protocols import split
from spectral_repro.reporting.sections import gather

ZCA_PI, ZCA_PI_BY_HAND = ["norm=zca_pi"], ["norm=zca_published", "backward=pi", "norm.truncation=reference"]


def test_a_run_belongs_to_its_row_however_it_was_started(make_run, report):
    make_run(*ZCA_PI, name="row", seed=0)
    make_run(*ZCA_PI_BY_HAND, name="hand", seed=1)
    (section,) = report().sections
    assert [[run.folder.partition("-")[0] for run in entry.runs] for entry in section.entries] == [[], [], ["row", "hand"]]
    assert section.full


def test_keys_ignored_by_the_identity_do_not_matter(make_run, report):
    make_run("norm=batch", "trainer.threads=1", "device=cpu", "results_dir=elsewhere", "trainer.log_every=3")
    (section,) = report().sections
    assert len(section.runs) == 1


@pytest.mark.parametrize(
    "change",
    [
        "scale=smoke",
        "optimizer.lr=0.05",
        "optimizer=adamw",
        "schedule=cosine",
    ],
)
def test_another_protocol_has_its_own_section(make_run, report, change):
    make_run("norm=batch", name="full")
    make_run("norm=batch", change, name="quickstart_other")
    full, other = report().sections
    assert full.full and not other.full
    assert [run.folder.partition("-")[0] for run in full.runs] == ["full"]
    assert [run.folder.partition("-")[0] for run in other.runs] == ["quickstart_other"]
    assert full.name != other.name and full.label != other.label


def test_another_precision_has_its_own_section_at_full_scale(make_run, report):
    make_run("norm=batch", name="full")
    make_run("norm=batch", "precision=bfloat16", name="quickstart_other")
    one, other = report().sections
    assert one.full and other.full and one.exact and not other.exact
    assert one.name != other.name and "bfloat16" in other.label


def test_two_other_protocols_have_two_sections(make_run, report):
    for rate in ("0.01", "0.02"):
        make_run("norm=batch", f"optimizer.lr={rate}", name="quickstart_batch")
    sections = report().sections
    assert [len(section.runs) for section in sections] == [1, 1, 0]
    assert [section.full for section in sections] == [False, False, True]


@pytest.mark.parametrize("override", ["norm.eps=1e-2", "norm.momentum=0.5"])
def test_a_run_with_other_values_in_a_compared_key_belongs_to_no_row(make_run, report, override):
    make_run("norm=zca_pi", override)
    make_run("norm=zca_pi", override, "model.width=8", name="wang2019_row")  # of another paper: not worth a word
    make_run("norm=batch")
    result = report()
    assert sum(len(section.runs) for section in result.sections) == 1
    assert result.remarks == ("1 run left out: no row of paper=quickstart has their values and protocol",)


def test_without_runs_every_row_has_a_command(report, runs_folder, paper):
    runs_folder.mkdir()
    result = report()
    (section,) = result.sections
    assert section.full and section.runs == []
    assert section.commands == [row.command() for row in paper.tables[0].rows]
    assert section.commands[1] == "python -m spectral_repro.train norm=zca_svd"
    (remark,) = result.remarks
    assert "no run" in remark and "python -m spectral_repro.train -m paper=quickstart" in remark


def test_missing_rows_of_a_scale_get_the_command_at_that_scale(make_run, report, paper):
    make_run("norm=batch", "scale=smoke")
    section = report().sections[0]
    assert [entry.row.label for entry in section.entries if not entry.runs] == ["ZCA, SVD", "ZCA, SVD-PI"]
    for command, row in zip(section.commands, paper.tables[0].rows[1:], strict=True):
        overrides = shlex.split(command)[3:]
        assert split(identity(compose(overrides)), paper.compare) == (row.values, section.protocol)


def test_commands_of_missing_rows_contain_the_keys_of_the_protocol(make_run, report):
    make_run("norm=batch", "scale=smoke", "optimizer.lr=0.5", name="quickstart_batch")
    command = "python -m spectral_repro.train norm={} scale=smoke optimizer.lr=0.5"
    assert report().sections[0].commands == [command.format("zca_svd"), command.format("zca_pi")]


@pytest.fixture(scope="module")
def two_data_sets():
    """The same rows on digits and on CIFAR-10."""

    def table(dataset: str) -> dict:
        rows = [{"label": norm, "overrides": [f"dataset={dataset}", f"norm={norm}"]} for norm in ("batch", "zca")]
        return {"title": dataset, "rows": rows}

    settings = {"name": "quickstart", "title": "", "source": "", "compare": ["norm"], "metric": "test_accuracy"}
    return load_paper(OmegaConf.create(settings | {"tables": {name: table(name) for name in ("digits", "cifar10")}}))


def test_another_protocol_belongs_to_the_nearest_table(make_run, read, two_data_sets):
    make_run("norm=batch", "dataset=cifar10", "scale=smoke", name="reduced")
    make_run("norm=zca", "dataset=digits", name="full")
    report = gather(two_data_sets, read())
    placed = [
        (section.table.name, section.full, [run.folder.split("-")[0] for run in section.runs]) for section in report.sections
    ]
    assert placed == [("digits", True, ["full"]), ("cifar10", False, ["reduced"]), ("cifar10", True, [])]


@pytest.mark.parametrize(
    ("change", "name", "joins"),
    [
        ("dataset=cifar10", "resnet18_batch_cifar10", False),
        ("dataset=cifar10", "quickstart_batch", False),
        ("optimizer.lr=0.5", "resnet18_batch_digits", False),
        ("model=resnet34", "resnet34_batch_digits", False),
        ("optimizer.lr=0.5", "quickstart_batch", True),
        ("scale=smoke", "resnet18_batch_digits", True),
        ("dataset.train_images=100", "resnet18_batch_digits", True),
        ("scale=smoke", "wang2019_batch", False),
    ],
)
def test_runs_of_other_data_or_protocols_do_not_belong_to_a_paper(make_run, report, change, name, joins):
    """Smaller versions of its protocol are, and what was started through its own experiments on its data."""
    make_run("norm=batch", change, name=name)
    found = report()
    assert any(section.runs for section in found.sections) == joins
    assert bool(found.remarks) != joins
