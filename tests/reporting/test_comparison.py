"""Runs of any sweep as tables."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
import yaml

from spectral_repro.errors import UserError
from spectral_repro.reporting.commands import listed
from spectral_repro.reporting.comparison import compare, differences, report_command, select
from spectral_repro.reporting.figures import draw_dots, draw_points
from spectral_repro.reporting.intervals import interval
from spectral_repro.reporting.latex import latex
from spectral_repro.reporting.load import load_runs, read_archive, read_places, write_archive
from spectral_repro.reporting.naming import axis_key, distinguishing, is_logarithmic, label
from spectral_repro.reporting.page import render
from spectral_repro.reporting.site import write
from spectral_repro.reporting.tables import aggregate, formatted, markdown, notes


@pytest.fixture
def runs(make_run, read):
    """Three gradients with two, three and no finished seeds, as they began."""
    for place, (backward, accuracies) in enumerate({"exact": (80, 84), "svd": (70, 76, 79), "pi": ()}.items()):
        for seed, accuracy in enumerate(accuracies):
            started = f"2026-01-01T00:00:0{place}"
            make_run("norm=zca", f"backward={backward}", seed=seed, accuracies=[50.0, accuracy], started=started)
    make_run("norm=zca", "backward=pi", state="diverged", accuracies=[10.0], started="2026-01-01T00:00:03")
    return select(read(), [])


def labels(section) -> list[str]:
    return [row.label for row in section.table.rows]


@pytest.mark.parametrize("keys", [[], ["norm"], ["backward"], ["norm.backward"], ["norm.backward._target_"]])
def test_labels_and_differences_over_common_seeds(runs, keys):
    (section,) = compare(runs, keys).sections
    assert labels(section) == ["exact", "svd", "pi"] and section.table.baseline == "exact"
    exact, svd, pi = aggregate(section).to_dict("records")
    low, high = interval(np.array([-10.0, -8.0]))
    assert (svd["difference"], svd["difference_low"], svd["difference_high"], svd["pairs"]) == (-9, low, high, 2)
    assert (svd["seeds"], pi["seeds"], pi["diverged"]) == (3, 0, 1)
    assert np.isnan(exact["difference"]) and np.isnan(pi["difference"])
    table = formatted(section)
    assert table["", "mean ± std"].tolist() == ["82.00 ± 2.83", "75.00 ± 4.58", "diverged"]
    assert table["", "other runs"].tolist() == ["–", "–", "1 diverged"]
    assert table["", "difference"].tolist() == ["–", "−9.00", "–"]
    assert "Difference: to exact, the mean over common seeds" in markdown(section)


def test_one_common_seed_has_no_interval(runs):
    (section,) = compare(select(runs, ["seed=0", "state=finished"])).sections
    table = formatted(section)
    assert table["", "difference"].tolist() == ["–", "−10.00"] and table["", "95 %\ninterval"].tolist() == ["–", "–"]


def test_the_chosen_baseline_comes_first(runs):
    (section,) = compare(runs, baseline="svd").sections
    assert labels(section) == ["svd", "exact", "pi"]
    assert formatted(section)["", "difference"].tolist() == ["–", "+9.00", "–"]
    (section,) = compare(select(runs, ["backward=pi"]) + select(runs, ["backward=svd"])).sections
    assert section.table.baseline == "svd", "the first row has no result"


def test_a_table_has_one_protocol_and_one_data_set(make_run, read):
    for norm in ("batch", "zca"):
        for others in (["scale=smoke"], ["scale=smoke", "optimizer.lr=0.5"], ["dataset=cifar10"]):
            make_run(f"norm={norm}", *others)
    make_run("norm=pca", "dataset=cifar100")
    report = compare(read(), ["norm"])
    assert sorted(map(sorted, map(labels, report.sections))) == [["batch", "zca"]] * 3
    assert len({section.name for section in report.sections}) == 3
    assert report.remarks[0].startswith("1 run left out")
    automatic = compare(select(read(), ["scale=smoke"]))
    assert set(labels(automatic.sections[0])) == {"batch, lr = 0.1", "batch, lr = 0.5", "zca, lr = 0.1", "zca, lr = 0.5"}


def test_three_numbers_make_an_axis(make_run, read):
    for size in (4, 8, 16):
        for backward in ("exact", "pi"):
            make_run("norm=zca", f"backward={backward}", f"norm.group_size={size}")
    make_run("norm=batch")
    (section,) = compare(read(), ["norm"]).sections
    assert (section.table.axis.label, section.table.axis.log) == ("Group size d", True)
    assert {(row.label, row.series, row.at) for row in section.table.rows} >= {
        ("zca, pi, d = 16", "zca, pi", 16.0),
        ("batch", None, None),
    }
    figure = draw_points(section)
    assert figure.axes[0].get_xlabel() == "Group size d"
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "batch"
    assert section.table.title == "Norm, backward, group size d on digits"


def test_the_dots_are_sorted_with_their_intervals(runs):
    (section,) = compare(runs).sections
    (axes,) = draw_dots(section).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["svd", "exact"], "from the bottom to the top"
    means = {line.get_label(): tuple(line.get_xydata()[0]) for line in axes.lines if line.get_label().endswith(", mean")}
    assert means == {"_svd, mean": (75, 0), "_exact, mean": (82, 1)}
    drawn = [tuple(line.get_xdata()) for line in axes.lines if line.get_label() == "_svd"]
    assert drawn[0] == pytest.approx(interval(np.array([70.0, 76.0, 79.0]))) and drawn[1] == (70, 76, 79)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("dataset.name=mnist", ["no run matches", "values of dataset.name: digits"]),
        ("backward=autograd", ["no run matches", "values of backward: exact, pi, svd"]),
        ("seed=9", ["values of seed: 0, 1, 2"]),
        ("colour=red", ["no run has this key", "backward"]),
        ("trainer.accumulate=1", ["no run has another trainer.accumulate than 1", "backward"]),
        ("seed", ["seed", "where=[dataset.name=digits]"]),
    ],
)
def test_a_condition_that_no_run_meets(runs, condition, named):
    with pytest.raises(UserError) as error:
        select(runs, [condition])
    assert condition in str(error.value) and all(text in str(error.value) for text in named)


def test_runs_without_a_layer_are_found_by_null(make_run, read):
    make_run("norm=batch")
    without = make_run("norm=null", "model=mlp")
    assert [run.folder for run in select(read(), ["norm=null"])] == [without.name]


def test_sizes_of_a_data_set_are_the_rows_of_one_table(make_run, read):
    for size in (100, 200, 400):
        make_run(f"dataset.train_images={size}", images={"train": size, "test": 50})
    (section,) = compare(read(), ["dataset.train_images"]).sections
    assert len(section.entries) == 3 and "training images" not in section.label and "50 test images" in section.label


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"keys": ["colour"]}, ["compare=colour", "the runs differ in backward"]),
        ({"metric": "speed"}, ["metric=speed", "no such metric", "test_accuracy"]),
        ({"metric": "ece"}, ["metric=ece", "no run has measured it"]),
        ({"baseline": "batch"}, ["baseline=batch", "exact; svd; pi"]),
    ],
)
def test_errors_name_what_no_run_has(runs, options, named):
    with pytest.raises(UserError) as error:
        compare(runs, **options)
    assert all(text in str(error.value) for text in named)


def test_another_metric(runs):
    (section,) = compare(runs, metric="train_loss").sections
    assert section.table.metric.name == "train_loss" and aggregate(section)["mean"][0] == 0.5


def test_the_printed_command_gives_the_same_rows(runs):
    (section,) = compare(runs).sections
    keys, place, where, baseline, out = shlex.split(report_command(runs, "a folder"))[3:]
    assert (keys, place, where) == ("compare=[backward]", "runs=a folder", "where=[dataset.name=digits,scale=paper]")
    assert out == "out=a folder_comparison" and "out=" not in report_command(runs, "results/runs")
    conditions, first = listed(where.removeprefix("where=")), baseline.removeprefix("baseline=")
    (again,) = compare(select(runs, conditions), ["norm"], baseline=first).sections
    assert aggregate(again).equals(aggregate(section))


def test_the_printed_command_keeps_the_baseline_of_a_sweep(runs):
    """A run may have started before the sweep that it now belongs to."""
    in_order = select(runs, ["backward=svd"]) + select(runs, ["backward=exact"])
    (swept,) = compare(in_order).sections
    assert f"baseline={swept.table.baseline}" in shlex.split(report_command(in_order, "runs")) and swept.table.baseline == "svd"


def test_latex_tables_escape_names_of_the_user(make_run, read):
    for name in ("a_b", "a_b & c"):
        make_run("norm=batch", f"dataset.name='{name}'")
        make_run("norm=zca", f"dataset.name='{name}'")
    for section in compare(read(), ["norm"]).sections:
        assert r"on a\_b" in latex(section) and "_b &" not in latex(section).splitlines()[2].replace(r"\_b \&", "")


def test_labels_use_few_keys():
    def row(norm: str, **others: object) -> dict[str, object]:
        return {"norm._target_": f"spectral_repro.layers.{norm}"} | others

    rows = [
        row("ZCAWhitening", **{"norm.backward._target_": "spectral_repro.linalg.backward.Exact", "norm.truncation": "none"}),
        row("ZCAWhitening", **{"norm.backward._target_": "spectral_repro.linalg.backward.PlainSVD", "norm.truncation": "x"}),
        {"norm._target_": "torch.nn.BatchNorm2d", "norm.eps": 1e-5},
        {"optimizer.lr": 0.1},
    ]
    keys = distinguishing(rows)
    assert keys == ["norm._target_", "norm.backward._target_"]
    assert [label(each, keys) for each in rows] == ["zca, exact", "zca, svd", "batch", "no norm"]
    assert label({"norm._target_": "mine.Whitening", "norm.d": None, "trainer.flag": True}, ["norm._target_", "norm.d"]) == (
        "Whitening, d = null"
    )


def test_numbers_that_make_an_axis():
    rows = [{"lr": rate, "k": k, "flag": True} for rate in (0.1, 0.2, 0.3) for k in (1, 2)]
    assert axis_key(rows, ["lr", "k", "flag"]) == "lr" and axis_key(rows, ["k", "flag"]) is None
    assert axis_key([*rows, {"lr": "auto"}], ["lr"]) is None
    assert [is_logarithmic(each) for each in ([1, 2, 4], [1, 2, 3], [0, 1, 100], [0.1, 0.2, 0.9])] == [True, False, False, True]


def test_runs_that_differ_in_the_seed_share_a_row(make_run, read):
    for seed in range(2):
        make_run("norm=batch", seed=seed)
    (section,) = compare(read()).sections
    assert labels(section) == ["resnet18, batch"] and section.table.title == "digits" and len(section.runs) == 2
    assert pd.isna(aggregate(section)["difference"]).all() and "compare=auto" in report_command(read(), "runs")
    assert "baseline=" not in report_command(read(), "runs")
    assert [labels(*compare(read(), [key]).sections) for key in ("norm", "lr")] == [["batch"], ["lr = 0.1"]]


@pytest.mark.parametrize(
    ("key", "before", "others", "shown"),
    [
        ("trainer.accumulate", 1, (2, 4), ["accumulate = 1", "accumulate = 2", "accumulate = 4"]),
        ("norm.shrinkage", 0, ("null", 0.1), ["shrinkage = 0", "shrinkage = null", "shrinkage = 0.1"]),
        ("dataset.drop_last", "false", ("true",), ["drop last = false", "drop last = true"]),
    ],
)
def test_a_value_that_identities_leave_out_is_shown(make_run, runs_folder, tmp_path, key, before, others, shown):
    """Also of runs that were read from runs.csv, and only for runs that have the key."""
    for place, value in enumerate((before, *others)):
        make_run("norm=zca", f"{key}={value}", started=f"2026-01-01T00:00:0{place}")
    make_run("norm=batch", "dataset=cifar10")
    first, _ = read_places([str(runs_folder)], "nobody")
    for name, content in write_archive(first).items():
        (tmp_path / name).write_bytes(content)
    for read in (first, read_places([str(tmp_path / "runs.csv")], "nobody")[0]):
        assert {run.id for run in read} == {path.name[-8:] for path in runs_folder.iterdir()}
        runs = select(read, ["norm=zca"])
        (section,) = compare(runs).sections
        assert labels(section) == shown and (section.table.axis is not None) == (key == "trainer.accumulate")
        assert [run.identity[key] for run in select(runs, [f"{key}={before}"])] == [yaml.safe_load(str(before))]
    assert load_runs(runs_folder)[key].notna().sum() == len(others) + 1 - ("null" in others) + key.startswith("trainer")


@pytest.fixture
def trials(make_run, read):
    """Two norms at three learning rates, two seeds each: what is best on the validation images is not so on the test images."""
    for norm, validations in {"batch": (70, 80, 75), "zca": (60, 65, 90)}.items():
        for rate, validation in zip((0.01, 0.1, 1.0), validations, strict=True):
            for seed in (0, 1):
                columns = {"validation_accuracy": [10.0, validation + seed]}
                overrides = (f"norm={norm}", f"optimizer.lr={rate}")
                make_run(*overrides, seed=seed, accuracies=[50.0, 150 - validation], columns=columns)
    make_run("norm=batch", "optimizer.lr=2", state="diverged", accuracies=[10.0], columns={"validation_accuracy": [99.0]})
    return read


def test_each_method_uses_its_best_value_on_validation_images(trials):
    report = compare(trials(), ["norm"], best_over=["optimizer.lr"])
    (section,) = report.sections
    frame = aggregate(section).set_index("method")
    assert frame["chosen"].to_dict() == {"batch": "lr = 0.1", "zca": "lr = 1"}
    assert frame["trials"].to_dict() == {"batch": 4, "zca": 3}
    assert frame["mean"].to_dict() == {"batch": 70, "zca": 60}, "the test accuracy there, which is not the best one"
    assert frame["validation_accuracy"].to_dict() == {"batch": 80.5, "zca": 90.5} and frame["seeds"].tolist() == [2, 2]
    assert {run.identity["optimizer.lr"] for run in section.runs} == {0.1, 1.0}
    text = markdown(section)
    assert "chosen without the test images" in text and "3 to 4 per row, so not equally tuned" in text
    assert "without optimizer.lr" not in section.label and report.remarks == ()


def test_values_with_a_diverged_run_are_the_last_choice(trials, make_run):
    make_run("norm=zca", "optimizer.lr=1", seed=2, state="diverged", accuracies=[10.0])
    (section,) = compare(trials(), ["norm"], best_over=["lr"]).sections
    assert aggregate(section).set_index("method")["chosen"]["zca"] == "lr = 0.1"


def test_values_with_fewer_seeds_are_compared_over_the_common_ones(trials, make_run):
    """The better value of the common seed may have the lower mean."""
    for seed, validation in ((0, 91), (1, 70), (2, 70)):
        columns = {"validation_accuracy": [10.0, validation]}
        make_run("norm=zca", "optimizer.lr=0.5", seed=seed, accuracies=[50.0, 60.0], columns=columns)
    for rate, validation in ((0.2, 80), (0.3, 79)):
        make_run("norm=pca", f"optimizer.lr={rate}", seed=int(10 * rate), columns={"validation_accuracy": [10.0, validation]})
    (section,) = compare(trials(), ["norm"], best_over=["lr"]).sections
    chosen = aggregate(section).set_index("method")["chosen"]
    assert chosen[["zca", "pca"]].tolist() == ["lr = 1", "lr = 0.2"]
    uneven, apart = (next(note for note in notes(section) if note.startswith(name)) for name in ("zca", "pca"))
    assert uneven.startswith("zca: ") and uneven.endswith("the values are compared over 2 common seeds.")
    assert {f"lr = {rate} has 2 of 3 seeds" for rate in (0.01, 0.1, 1)} == {*uneven[5:].partition(";")[0].split(", ")}
    assert apart.endswith("there is no common seed.") and not any(note.startswith("batch: ") for note in notes(section))


def test_a_page_keeps_the_runs_of_all_values(trials, tmp_path):
    write(compare(trials(), ["norm"], best_over=["lr"]), tmp_path / "out")
    assert len(read_archive(tmp_path / "out" / "runs.csv")) == 13


def test_best_over_needs_validation_images(runs):
    with pytest.raises(UserError, match=r"best_over=\[lr\]: no run has a validation accuracy.*validation_images=5000"):
        compare(runs, ["norm"], best_over=["lr"])


def test_best_over_leaves_out_runs_without_validation_images(trials, make_run):
    make_run("norm=batch", "dataset.train_images=100")
    report = compare(trials(), ["norm"], best_over=["optimizer.lr"])
    assert len(report.sections) == 1 and "no run of their protocol has a validation accuracy" in report.remarks[0]


def test_a_choice_within_a_layer_is_named_by_its_group(make_run, read):
    for method in ("exact", "svd"):
        make_run("norm=zca", f"backward={method}")
    assert differences(read()) == ["backward"]
    make_run("norm=batch")
    assert differences(read()) == ["norm"]


def test_the_command_of_a_sweep_over_learning_rates_uses_best_over(trials):
    assert shlex.split(report_command(trials(), "runs"))[3:5] == ["compare=[norm]", "best_over=[optimizer.lr]"]
    alone = select(trials(), ["norm=zca"])
    assert shlex.split(report_command(alone, "runs"))[3:5] == ["compare=[optimizer.lr]", "runs=runs"]


@pytest.mark.parametrize("condition", ["norm.eps=1e-4", "norm.eps=0.0001", "norm.eps=1.0E-4"])
def test_numbers_in_any_notation(make_run, read, condition):
    make_run("norm=batch")
    make_run("norm=batch", "norm.eps=1e-4")
    (run,) = select(read(), [condition])
    assert run.identity["norm.eps"] == 1e-4


def test_a_value_that_is_not_yaml_is_a_text(make_run, read):
    make_run("dataset.name='[a'")
    assert len(select(read(), ["dataset.name=[a"])) == 1


def test_times_of_two_machines_are_sections_of_one_table(make_run, read):
    for threads in (1, 2):
        for norm in ("batch", "zca"):
            make_run(f"norm={norm}", seed=threads, threads=threads, columns={"step_time": [40.0, 41.0]})
    report = compare(read(), ["norm"], "step_time")
    assert [table.name for table in report.paper.tables] == ["digits"] and len(report.sections) == 2
    page = render(report, {section.name: [] for section in report.sections})
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and {section.name for section in report.sections} <= set(ids)


@pytest.mark.parametrize("name", ["runs", "Curves", "my/data", "../x", "birds, dogs", "..", "a" * 300])
def test_a_data_set_with_any_name(make_run, read, tmp_path, name):
    for norm in ("batch", "zca"):
        make_run(f"norm={norm}", f"dataset.name='{name}'")
    runs, out = read(), tmp_path / "new" / "out"
    write(compare(runs), out)
    assert len(read_archive(out / "runs.csv")) == 2 and all(path.is_file() for path in out.iterdir())
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    where = next(part for part in shlex.split(report_command(runs, "runs")) if part.startswith("where="))
    assert len(select(runs, listed(where.removeprefix("where=")))) == 2, "the printed command finds the runs"


def test_a_comparison_of_data_sets_keeps_its_runs(make_run, read, tmp_path):
    for name in ("a", "b"):
        make_run("norm=batch", f"dataset.name={name}")
    report = compare(read(), ["dataset.name"])
    write(report, tmp_path / "out")
    assert report.sections[0].table.title == "Name" and len(read_archive(tmp_path / "out" / "runs.csv")) == 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a=1", ["a=1"]),
        ("[a=1, b=it's,c=2]", ["a=1", "b=it's", "c=2"]),
        ("['name=one, two',std=[1,2]]", ["name=one, two", "std=[1,2]"]),
        ("std=[1,2]", ["std=[1,2]"]),
        ("[]", []),
    ],
)
def test_conditions_are_separated_by_commas(text, parts):
    assert listed(text) == parts
