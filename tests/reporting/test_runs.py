import json
import os
import shutil

import numpy as np
import pytest

from spectral_repro.errors import UserError
from spectral_repro.reporting import runs as runs_module
from spectral_repro.reporting.metrics import METRICS
from spectral_repro.reporting.runs import Damage, read_run, read_runs


def test_a_run_reads_as_it_was_written(make_run):
    folder = make_run("norm=zca_pi", "scale=cpu", accuracies=[10.0, 55.5, 54.25], seed=3)
    run = read_run(folder)
    assert run.folder == folder.name
    assert folder.name.endswith(run.id), "the identity survives the way through YAML"
    assert (run.seed, run.state, run.scale) == (3, "finished", "cpu")
    assert METRICS["test_accuracy"].of(run.metrics) == 54.25
    assert run.metrics["epoch"].tolist() == [1, 2, 3]
    assert run.summary["device"] == "2 x Some CPU"


@pytest.mark.parametrize(
    ("name", "paper"),
    [("wang2019_batch", "wang2019"), ("common_ground_batch", "common_ground"), ("resnet18_batch_digits", None)],
)
def test_a_run_names_the_paper_of_its_experiment(make_run, name: str, paper: str | None):
    assert read_run(make_run(name=name)).paper == paper


def test_the_longest_name_of_a_paper_counts(make_run, monkeypatch):
    monkeypatch.setattr(runs_module, "options", lambda group: ["mine", "mine_ablation"])
    assert read_run(make_run(name="mine_ablation_batch")).paper == "mine_ablation"


def test_a_run_before_its_first_epoch_has_no_result(make_run):
    run = read_run(make_run(accuracies=[], state="running"))
    assert run.metrics.empty and all(np.isnan(metric.of(run.metrics)) for metric in METRICS.values())


def test_extremes_over_the_whole_run(make_run):
    columns = {"largest_gradient": [1.0, 7.5, 2.0], "smallest_gap": [1e-3, 2e-9, 1e-4]}
    run = read_run(make_run(accuracies=[10.0, 20.0, 30.0], columns=columns))
    assert (run.largest_gradient, run.smallest_gap) == (7.5, 2e-9)


def test_extremes_that_were_not_recorded_are_nan(make_run):
    for run in (read_run(make_run()), read_run(make_run(accuracies=[], state="running", seed=1))):
        assert np.isnan(run.largest_gradient) and np.isnan(run.smallest_gap)


def damage_config(folder):
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\nmodel: {width: [")


def cut_config(folder):
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\nprecision: float32\n")


def remove_config(folder):
    shutil.rmtree(folder / ".hydra")


def remove_summary(folder):
    (folder / "summary.json").unlink()


def cut_summary(folder):
    (folder / "summary.json").write_text('{"state": "fini')


def list_summary(folder):
    (folder / "summary.json").write_text("[]")


def unknown_state(folder):
    (folder / "summary.json").write_text('{"state": "fine"}')


def binary_summary(folder):
    (folder / "summary.json").write_bytes(b"\xff\xfe\x00")


def remove_metrics(folder):
    (folder / "metrics.csv").unlink()


def pipe_of_metrics(folder):
    (folder / "metrics.csv").unlink()
    os.mkfifo(folder / "metrics.csv")


def empty_metrics(folder):
    (folder / "metrics.csv").write_text("")


def words_in_metrics(folder):
    (folder / "metrics.csv").write_text((folder / "metrics.csv").read_text().replace("80.0", "eighty"))


def cut_metrics(folder):
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text[: text.index("80.0") - 5])


def skip_an_epoch(folder):
    (folder / "metrics.csv").write_text((folder / "metrics.csv").read_text().replace("\n2,", "\n3,"))


def drop_a_column(folder):
    (folder / "metrics.csv").write_text((folder / "metrics.csv").read_text().replace("test_accuracy", "accuracy"))


def evaluation(content):
    return lambda folder: (folder / "evaluation.json").write_text(json.dumps(content))


def summary(**values):
    def change(folder):
        content = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(content | values))

    return change


def config(old, new):
    def change(folder):
        path = folder / ".hydra" / "config.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def no_permission(folder):
    (folder / "metrics.csv").unlink()
    (folder / "metrics.csv").mkdir()


CALIBRATION = {"conditions": "15 bins", "settings": {"checkpoint": "last.pt"}, "ece": 0.1}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_config, ".hydra/config.yaml is damaged: while parsing"),
        (cut_config, "dataset.name, trainer.epochs, scale.name"),
        (remove_config, "no config.yaml"),
        (remove_summary, "no summary.json"),
        (cut_summary, ""),
        (list_summary, "summary.json"),
        (unknown_state, "summary.json"),
        (binary_summary, ""),
        (remove_metrics, "metrics.csv"),
        (empty_metrics, "metrics.csv is damaged: No columns to parse from file"),
        (pipe_of_metrics, "metrics.csv is a pipe, not a file"),
        (words_in_metrics, "eighty"),
        (cut_metrics, "metrics.csv"),
        (skip_an_epoch, "metrics.csv"),
        (drop_a_column, "finished, but metrics.csv has no complete last row"),
        (no_permission, "metrics.csv"),
        (evaluation([]), "evaluation.json"),
        (evaluation({"calibration": []}), "calibration is not a JSON object"),
        (evaluation({"calibration": CALIBRATION | {"settings": {}}}), "calibration does not name its checkpoint"),
        (evaluation({"calibration": {"ece": 0.1}}), "calibration has no conditions"),
        (evaluation({"calibration": CALIBRATION | {"ece": "small"}}), "small"),
        (summary(git="0123"), "git is not a JSON object"),
        (summary(git={"commit": 5}), "git.commit has the wrong type: 5"),
        (summary(wall_time_s="long"), 'wall_time_s has the wrong type: "long"'),
        (summary(final={"test_accuracy": [1]}), "final.test_accuracy has the wrong type: [1]"),
        (summary(epochs=5), "finished, but metrics.csv has 2 of 5 epochs"),
        (summary(name=7), "name has the wrong type: 7"),
        (config("seed: 0", "seed: zero"), 'seed="zero"'),
        (config("seed: 0", "? [0]\n: 1"), ""),
    ],
)
def test_a_damaged_folder_is_named_and_left_out(make_run, runs_folder, damage, named):
    damage(make_run(name="bad"))
    make_run(name="good", seed=1)
    runs, notices = read_runs(runs_folder, made_by="nobody")
    assert [run.folder.partition("-")[0] for run in runs] == ["good"]
    (notice,) = notices
    assert isinstance(notice, Damage) == (damage not in (remove_config, remove_summary))
    assert notice.startswith("bad-") and "left out" in notice and named in notice
    assert "\n" not in notice


def test_of_two_copies_of_a_run_the_further_one_counts(make_run, runs_folder):
    half = make_run(name="half", accuracies=[50.0], state="interrupted")
    whole = make_run(name="whole", accuracies=[50.0, 70.0])
    shutil.copytree(whole, whole.with_name("zz-copy"))
    runs, notices = read_runs(runs_folder, made_by="nobody")
    assert [run.folder for run in runs] == [whole.name]
    assert len(notices) == 2 and all(whole.name in notice for notice in notices)
    assert half.name in " ".join(notices)


def test_folders_that_are_no_runs_are_skipped(make_run, runs_folder):
    make_run()
    (runs_folder / "multirun.yaml").write_text("")
    (runs_folder / ".cache").mkdir()
    runs, notices = read_runs(runs_folder, made_by="nobody")
    assert len(runs) == 1 and notices == []


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError) as raised:
        read_runs(tmp_path / "nowhere", made_by="python -m something")
    message = str(raised.value)
    assert "nowhere" in message and "python -m something" in message and "\n" not in message


def test_keys_may_be_missing_from_a_summary(make_run):
    folder = make_run()
    (folder / "summary.json").write_text(json.dumps({"state": "finished"}))
    run = read_run(folder)
    assert run.state == "finished" and folder.name.endswith(run.id)


def test_numbers_that_are_not_finite_are_unknown(make_run):
    folder = make_run()
    (folder / "summary.json").write_text('{"state": "finished", "wall_time_s": NaN, "images_per_second": 1e999, "git": null}')
    (folder / "evaluation.json").write_text(json.dumps({"calibration": CALIBRATION | {"ece": float("nan")}}))
    run = read_run(folder)
    assert run.summary == {"state": "finished"}
    assert np.isnan(METRICS["ece"].of(run.metrics)) and run.metrics.dtypes.eq(float).all()
