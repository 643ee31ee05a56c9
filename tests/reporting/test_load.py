import json
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from spectral_repro.errors import UserError
from spectral_repro.reporting import load_curves, load_runs
from spectral_repro.reporting.curves import draw_curves
from spectral_repro.reporting.load import check_archive, read_archive, read_places, write_archive
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.style import image


@pytest.fixture
def folder(make_run, runs_folder, evaluate):
    make_run("norm=zca_pi", "scale=cpu", accuracies=[10.0, 55.5, 54.25], seed=3, name="song2021_cifar10_pi", final={"epoch": 3})
    evaluate(make_run(git={"commit": "0123456789abcdef", "dirty": False}), ece=0.25)
    make_run(accuracies=[], state="diverged", seed=1, failure={"step": 4})
    (runs_folder / "broken-00000000").mkdir()
    return runs_folder


@pytest.fixture
def archived(folder, tmp_path):
    """What the report keeps of these runs."""
    runs, _ = read_places([str(folder)], "nobody")
    (tmp_path / "kept").mkdir()
    for name, content in write_archive(runs).items():
        (tmp_path / "kept" / name).write_bytes(content)
    return runs, tmp_path / "kept"


def test_load_runs_gives_a_row_for_each_run(folder):
    with pytest.warns(UserWarning, match=r"^broken-00000000: left out, no config.yaml$"):
        frame = load_runs(folder).set_index("run")
    assert len(frame) == 3 and set(frame["state"]) == {"finished", "diverged"}
    row = frame.loc[frame["seed"] == 3].iloc[0]
    assert (row["test_accuracy"], row["best_test_accuracy"], row["epoch"]) == (54.25, 55.5, 3)
    assert (row["scale"], row["paper"], row["norm.backward.iterations"], row["trainer.epochs"]) == ("cpu", "song2021", 19, 6)
    assert row["images_per_second"] == 1000.4 and row["device"] == "2 x Some CPU"
    other = frame.loc[frame["ece"].notna()].iloc[0]
    assert (other["ece"], other["commit"]) == (0.25, "0123456789abcdef")


@pytest.mark.filterwarnings("ignore:broken")
def test_folders_with_any_name_and_with_files_of_the_system(folder):
    renamed = folder.rename(folder.with_name("[my] runs*"))
    for name in ("__MACOSX", "System Volume Information", ".Trash-1000"):
        (renamed / name).mkdir()
    assert len(load_runs(renamed)) == 3


@pytest.mark.filterwarnings("ignore:broken")
def test_load_curves_gives_a_row_for_each_epoch(folder):
    frame = load_curves(str(folder))
    assert len(frame) == 3 + 2 and frame.columns[0] == "run"
    assert frame[frame["run"].str.startswith("song2021")]["test_accuracy"].tolist() == [10.0, 55.5, 54.25]


def test_runs_are_read_back_from_runs_csv(archived):
    runs, kept = archived
    again, notices = read_places([str(kept / "*.csv").replace("*", "runs")], "nobody")
    assert notices == [] and [run.id for run in again] == [run.id for run in runs]
    for run, other in zip(runs, again, strict=True):
        assert run.identity == other.identity and run.evaluation == other.evaluation
        assert run.summary == other.summary | {key: run.summary[key] for key in ("final", "best") if key in run.summary}
        assert run.whole == other.whole and len(run.metrics) == len(other.metrics)
        pd.testing.assert_frame_equal(run.metrics, other.metrics, check_dtype=False, check_like=True, rtol=1e-5)


def test_curves_csv_may_have_another_order(archived):
    runs, kept = archived
    curves = pd.read_csv(kept / "curves.csv")
    curves.sort_values("test_accuracy").to_csv(kept / "curves.csv", index=False)
    again = {run.id: run.metrics["test_accuracy"].tolist() for run in read_archive(kept / "runs.csv")}
    assert again == {run.id: run.metrics["test_accuracy"].tolist() for run in runs} and [10.0, 55.5, 54.25] in again.values()


def test_runs_csv_keeps_the_type_of_every_value(archived, tmp_path):
    (run, *_), _ = archived
    values = [None, True, 1, 1.0, 1e-5, [1, "a", None], "a, b", "", "None", "null", "true", "1", "1e-5", "NaN", "[1]", '"', " "]
    run = replace(run, identity=run.identity | {f"model.{place}": value for place, value in enumerate(values)})
    (tmp_path / "runs.csv").write_bytes(write_archive([run])["runs.csv"])
    (again,) = read_archive(tmp_path / "runs.csv")
    assert again.identity == run.identity and again.id == run.id
    assert list(map(type, again.identity.values())) == list(map(type, run.identity.values()))


def test_older_files_with_the_configuration_in_one_column_are_read(archived):
    runs, kept = archived
    frame = pd.read_csv(kept / "runs.csv", dtype=str)
    frame.assign(identity=[json.dumps(run.identity) for run in runs]).replace("true", "True").to_csv(kept / "runs.csv")
    assert [run.identity for run in read_archive(kept / "runs.csv")] == [run.identity for run in runs]


def test_runs_csv_does_not_repeat_the_epochs_of_curves_csv(archived):
    runs, kept = archived
    assert any("final" in run.summary for run in runs) and '""final""' not in (kept / "runs.csv").read_text()


def test_without_curves_csv_runs_have_their_last_row(archived):
    _, kept = archived
    (kept / "curves.csv").unlink()
    again, _ = read_places([str(kept / "runs.csv")], "nobody")
    last = {run.seed: run.metrics for run in again}
    assert METRICS["best_test_accuracy"].of(last[3]) == 55.5
    assert last[3]["test_accuracy"].tolist() == [54.25] and last[3]["epoch"].tolist() == [3]
    assert not any(run.whole for run in again) and last[1].empty


def test_a_run_folder_takes_precedence_over_runs_csv(archived, folder):
    runs, kept = archived
    found, notices = read_places([str(kept / "runs.csv"), str(folder)], "nobody")
    assert len(found) == len(runs) and len(notices) == 1
    assert all(run.summary["wall_time_s"] == 75.4 for run in found)


def test_another_csv_file_gives_a_notice(folder, tmp_path):
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    _, notices = read_places([str(folder), str(tmp_path / "*.csv")], "nobody")
    assert any("runs.csv: left out, not the runs.csv of a report" in notice for notice in notices)


def test_no_place_exists_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"^runs=.*nowhere,.*csv: no such folder; runs are made by nobody$"):
        read_places([str(tmp_path / "nowhere"), str(tmp_path / "*.csv")], "nobody")


@pytest.mark.parametrize("curves", [True, False])
@pytest.mark.parametrize("metric", ["test_accuracy", "best_top5_accuracy"])
def test_diverged_runs_from_runs_csv_are_drawn(make_run, runs_folder, paper, tmp_path, curves, metric):
    make_run("norm=batch", accuracies=[], state="diverged", seed=0)
    make_run("norm=batch", accuracies=[50.0], losses=[float("nan")], state="diverged", seed=1)
    make_run("norm=zca_pi", accuracies=[], state="interrupted", seed=0)
    runs, _ = read_places([str(runs_folder)], "nobody")
    files = write_archive(runs)
    (tmp_path / "runs.csv").write_bytes(files["runs.csv"])
    if curves:
        (tmp_path / "curves.csv").write_bytes(files["curves.csv"])
    again, notices = read_places([str(tmp_path / "runs.csv")], "nobody")
    assert notices == [] and len(again) == 3
    assert all(run.metrics.dtypes.eq(float).all() for run in again)
    (table,) = paper.tables
    (section,) = gather(replace(paper, tables=(replace(table, metric=METRICS[metric]),)), again).sections
    figure = draw_curves(section)
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert image(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(("content", "notices"), [("", 1), ("run,state,scale,seed,summary,evaluation\n", 0)])
def test_an_empty_file_has_no_runs(call, tmp_path, content, notices):
    (tmp_path / "runs.csv").write_text(content)
    ended = call("report", "paper=quickstart", "runs=runs.csv", "out=made")
    left_out = [line for line in ended.stderr.splitlines() if line.startswith("runs.csv: left out")]
    assert ended.returncode == len(left_out) == notices, ended.stderr
    assert (tmp_path / "made" / "index.html").exists()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("runs.csv", '""state""', '""state'),
        ("runs.csv", '""state"":""finished""', '""state"":""unheard""'),
        ("runs.csv", "evaluation", "valuation"),
        ("curves.csv", "run,epoch", "fun,epoch"),
        ("curves.csv", "55.5", "55,5"),
        ("curves.csv", ",2,", ",3,"),
        ("runs.csv", ",cpu,3,", ',cpu,"""3""",'),
        ("runs.csv", ",cpu,3,", ",cpu,,"),
        ("runs.csv", ",cpu,", ",,"),
    ],
)
def test_damaged_files_are_named(archived, file, old, new):
    _, kept = archived
    text = (kept / file).read_text()
    assert old in text
    (kept / file).write_text(text.replace(old, new))
    runs, (notice,) = read_places([str(kept / "runs.csv")], "nobody")
    assert runs == [] and notice.startswith(f"{kept / 'runs.csv'}: left out, not the runs.csv of a report (")


def test_the_best_copy_of_a_run_is_used(archived, folder):
    runs, kept = archived
    (begun,) = folder.glob("song2021*")
    summary = json.loads((begun / "summary.json").read_text())
    (begun / "summary.json").write_text(json.dumps(summary | {"state": "interrupted"}))
    (begun / "metrics.csv").write_text("\n".join((begun / "metrics.csv").read_text().splitlines()[:2]) + "\n")
    found, notices = read_places([str(folder), str(kept / "runs.csv")], "nobody")
    (run,) = (run for run in found if run.folder == begun.name)
    assert (run.state, run.epochs, run.places) == ("finished", 3, (kept / "runs.csv",)) and len(found) == len(runs)
    assert f"{begun}: left out, {kept / 'runs.csv'} has more of the same run (finished, 3 epochs)" in notices


@pytest.mark.parametrize("name", ["base", "007"])
def test_runs_whose_folders_have_the_same_name_are_kept_apart(write_run, tmp_path, name):
    for place, accuracy in (("a", 60.0), ("b", 70.0)):
        write_run(tmp_path / place, f"norm={'zca' if place == 'a' else 'batch'}", accuracies=[accuracy]).rename(
            tmp_path / place / name
        )
    runs, _ = read_places([str(tmp_path / "a"), str(tmp_path / "b")], "nobody")
    assert {run.folder for run in runs} == {f"{name}-{run.id}" for run in runs} and len(runs) == 2
    for file, content in write_archive(runs).items():
        (tmp_path / file).write_bytes(content)
    again, _ = read_places([str(tmp_path / "runs.csv")], "nobody")
    of_both = [{run.id: run.metrics["test_accuracy"].tolist() for run in each} for each in (runs, again)]
    assert of_both[0] == of_both[1] and sorted(of_both[0].values()) == [[60.0], [70.0]]
    alone, _ = read_places([str(tmp_path / "a")], "nobody")
    for file, content in write_archive(alone).items():
        (tmp_path / file).write_bytes(content)
    (run,) = read_archive(tmp_path / "runs.csv")
    assert run.folder == name and run.whole, "a name such as 007 is not a number"


def test_the_only_copy_of_a_run_is_not_replaced(archived, folder, tmp_path):
    runs, kept = archived
    elsewhere, _ = read_places([str(folder)], "nobody")
    check_archive(kept, runs[:1], elsewhere)  # the others are still in their folder
    check_archive(tmp_path / "new", runs[:1], runs[:1])
    for path in (*folder.glob("run-*"), folder / "broken-00000000"):
        shutil.rmtree(path)
    read, _ = read_places([str(folder)], "nobody")
    message = f"out={kept}: its runs.csv has 2 runs that this report does not read; add {kept / 'runs.csv'} to runs=, name "
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_archive(kept, read, read)
    read, _ = read_places([str(folder), str(kept / "runs.csv")], "nobody")
    check_archive(kept, read, read)
    with pytest.raises(UserError, match=r"has 2 runs that this report leaves out; name another folder with out="):
        check_archive(kept, [run for run in read if run.folder.startswith("song2021")], read)
    (kept / "runs.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"its runs.csv cannot be read, so its runs would be lost"):
        check_archive(kept, read, read)


@pytest.mark.filterwarnings("ignore:broken")
def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_runs(f"~/{folder.name}")) == 3
