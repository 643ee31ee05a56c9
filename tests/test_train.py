"""python -m spectral_repro.train as a user runs it: its errors and its files."""

import csv
import json
import re
import shlex

import pytest
import torch

from spectral_repro.configuration.folders import CONF
from spectral_repro.errors import UserError
from spectral_repro.train import run_name

SMALL = ("scale=smoke", "trainer.threads=1")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["norm=zca", "norm.eps=-1"], ["norm.eps=-1", "> 0"]),
        (["norm=zca", "norm.group_size=7"], ["norm.group_size=7", "64 channels", "1, 2, 4, 8, 16, 32, 64"]),
        (["norm=pca", "norm.components=65"], ["norm.components=65", "64 channels"]),
        (["norm=pca", "norm.information=0.9"], ["norm.components=16 and information=0.9", "null"]),
        (["dataset.batch_size=0"], ["dataset.batch_size=0", ">= 1"]),
        (["model=lipconvnet5", "norm=zca"], ["norm: lipconvnet5 takes no argument norm; set norm=null"]),
        (["conv=tt", "conv.scale=0.5"], ["conv: stem (Conv2d): rank=192 and scale=0.5", "null"]),
        (["conv=tt", "model=resnext50_32x4d"], ["conv: stages.0.0.conv2 (Conv2d): groups=32", "has no groups"]),
        (
            ["conv=soc", "model=alexnet"],
            ["conv: features.0 (Conv2d): a skew-symmetric convolution has an odd square kernel", "padding=(2, 2)"],
        ),
        (
            ["dataset.validation_images=5", "dataset.validation_fraction=0.1"],
            ["dataset.validation_images=5", "dataset.validation_fraction=0.1", "one of the two"],
        ),
        (["dataset.validation_fraction=1"], ["dataset.validation_fraction=1", "> 0 and < 1"]),
        (["seed=x"], ["seed=x", "whole number"]),
        (["device=cuda:99"], ["device=cuda:99", "cpu"]),
        (["precision=float8"], ["precision=float8", "float32, bfloat16 or float16, or auto"]),
        (["schedule.every=7/0"], ["schedule.every=7/0", "100/350"]),
        (["optimizer.lr=null"], ["optimizer.lr=null", "> 0"]),
        (["norm=zcaa"], ["norm/zcaa", "zca_pi"]),
        (["norrm=zca"], ["norrm", "norm"]),
        (["norm=zca", "norm.epz=1"], ["norm.epz", "eps"]),
        (["+norm.extra=1"], ["norm.extra: torch.nn.BatchNorm2d has no such argument", "eps, momentum, affine"]),
        (["+foo=1"], ["foo", "no such key", "seed"]),
        (["loss.label_smoothing=0.1"], ["loss has no keys before loss=cross_entropy is chosen"]),
        (["optimiser.lr=1"], ["Allowed here: backward, constraint,", " loss,", "optimizer,"]),
        (["dataset=cub", "+dataset.load.bogus=1"], ["load.bogus: spectral_repro.data.cub has no such argument", "views"]),
        (["dataset.std=[0.1]"], ["dataset.std=[0.1]", "dataset.channels=3"]),
        (["model.num_classes=3"], ["model.num_classes=3", "dataset.num_classes=10"]),
        (["optimizer=adamw", "optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]", "a list of 2"]),
        (["optimizer.nesterov=true", "optimizer.momentum=0"], ["optimizer", "Nesterov momentum requires"]),
        (["seed=99999999999"], ["seed=99999999999", "4294967296"]),
        (["scale=smoke", "scale.name=mini"], ["scale.name=mini", "cpu, paper or smoke"]),
        (["experiment=wang2019/resnet19"], ["experiment/wang2019/resnet19", "resnet18_zca_d16"]),
        (["experiment="], ["experiment=: must be null, or one of"]),
        (["=5"], ["=5: names no key; write key=value"]),
        (["norm.eps=${x}"], ["norm.eps: Interpolation key 'x' not found"]),
        (["~trainer.epochs"], ["trainer.epochs: missing; every run needs it"]),
        (["trainer.threads=100000"], ["trainer.threads=100000", ">= 1 and < 1025"]),
        (["results_dir=" + 300 * "x"], ["no such path is possible here (File name too long)"]),
        (["results_dir=a\0b"], ["no such path is possible here (embedded null byte)"]),
        (["model=mlp", f"model.width={10**21}"], ["model: empty(): argument 'size' failed to unpack"]),
    ],
)
def test_bad_input_is_named_before_data_are_read(call, tmp_path, arguments: list[str], named: list[str]):
    result = call("train", "dataset=cifar10", "dataset.root=nowhere", "dataset.download=false", *arguments)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert "Traceback" not in output
    assert "nowhere/cifar-10-batches-py" not in output
    assert all(text in output for text in named), output
    assert not list(tmp_path.glob("results/runs/*/"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dataset.num_classes=3"], ["dataset.num_classes=3", "10 classes"]),
        (["dataset.image_size=9"], ["dataset.image_size=9", "8 x 8"]),
        (["trainer.accumulate=9"], ["dataset.batch_size=16 with trainer.accumulate=9 makes a batch of one of the 64"]),
        (["dataset.validation_images=64"], ["dataset.validation_images=64", "64 of the 64 training images"]),
        (["dataset.train_images=17", "model=mlp"], ["dataset.batch_size=16", "one of the 17", "dataset.drop_last=true"]),
        (
            ["dataset.train_images=15", "dataset.drop_last=true"],
            ["the 15 training images make no batch of dataset.batch_size=16"],
        ),
    ],
)
def test_errors_for_data_that_differ_from_the_configuration(train, arguments: list[str], named: list[str]):
    with pytest.raises(UserError) as error:
        train(*arguments)
    assert all(text in str(error.value) for text in named)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp", "norm=null"),
        ("model=alexnet_small",),
        ("model=mlp", "dataset.drop_last=true"),
        ("model=alexnet_small", "dataset.batch_size=1", "dataset.train_images=3"),
    ],
)
def test_a_batch_of_one_is_trained_on_where_every_layer_can(train, overrides: tuple[str, ...]):
    folder = train("dataset.train_images=17", "trainer.epochs=1", *overrides)
    summary = json.loads((folder / "summary.json").read_text())
    steps = 1 if "dataset.drop_last=true" in overrides else 3 if "dataset.batch_size=1" in overrides else 2
    assert (summary["state"], summary["steps"]) == ("finished", steps)


def test_a_sweep_continues_after_a_failed_job_and_ends_with_a_table(call, tmp_path):
    sweep = ("-m", "norm=zca", "optimizer.lr=0.1,1e30", "model=alexnet_small", "model.width=4", *SMALL)
    result = call("train", *sweep, "norm.group_size=7,4", "hydra.sweeper.max_batch_size=1")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "job 0 failed: norm.group_size=7: must divide the 4 channels" in result.stderr
    assert "2 of 4 jobs failed; the same command again runs what is not finished" in result.stderr
    rows = dict(re.findall(r"^\| (d = .*?) +\|(.*)$", result.stdout, re.MULTILINE))
    assert list(rows) == ["d = 7, lr = 0.1", "d = 4, lr = 0.1", "d = 7, lr = 1e+30", "d = 4, lr = 1e+30"]
    results = {label: [cell.strip() for cell in row.split("|")][:3] for label, row in rows.items()}
    assert results["d = 7, lr = 0.1"] == results["d = 7, lr = 1e+30"] == ["no finished run", "0", "1 failed"]
    assert results["d = 4, lr = 1e+30"] == ["diverged", "0", "1 diverged"] and results["d = 4, lr = 0.1"][1:] == ["1", "–"]
    assert "- d = 7, lr = 0.1, seed 0: failed, norm.group_size=7: must divide the 4 channels (1, 2, 4)." in result.stdout
    command = shlex.split(re.search(r"python -m spectral_repro.report (.*)", result.stdout)[1])
    assert command[0] == "compare=[norm.group_size,optimizer.lr]" and "where=[dataset.name=digits,scale=smoke]" in command
    states = {json.loads(path.read_text())["state"] for path in tmp_path.glob("results/runs/*/summary.json")}
    assert states == {"finished", "diverged"}
    again = call("train", *sweep, "norm.group_size=4")
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stdout and "epoch 1" not in again.stdout


def test_a_group_that_is_left_out_though_scale_sets_some_of_its_keys(call):
    for group, option in {"dataset": "cifar10", "trainer": "default", "model": "resnet18"}.items():
        result = call("train", "scale=smoke", f"{group}=null")
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert re.search(rf"^{group}=null: every run needs one of .*{option}", result.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("5", "must be keys with values"),
        ("null: 3", "must be keys with values, each key a string"),
        ("defaults: [mine]", "lists itself under defaults"),
        ("", "norm: names no class or function under _target_"),
        ("_target_: torch.nn", "norm._target_=torch.nn: is not a class or function"),
    ],
)
def test_errors_in_option_files_of_the_user(call, tmp_path, content: str, named: str):
    (tmp_path / "options" / "norm").mkdir(parents=True)
    (tmp_path / "options" / "norm" / "mine.yaml").write_text(content)
    result = call("train", "--config-dir", "options", "norm=mine", *SMALL)
    assert result.returncode == 1 and "Traceback" not in result.stderr and named in result.stderr


def test_an_option_with_a_name_of_conf_is_refused_unless_it_is_the_same(call, tmp_path):
    (tmp_path / "options" / "norm").mkdir(parents=True)
    own, built_in = tmp_path / "options" / "norm" / "batch.yaml", (CONF / "norm" / "batch.yaml").read_text()
    for content, code in ((built_in, 0), (built_in + "momentum: 0.5\n", 1)):
        own.write_text(content)
        result = call("train", "--config-dir", "options", "--cfg", "job")
        assert result.returncode == code
    assert result.stderr == f"{own}: norm=batch is an option of conf/, which would be used; rename this file\n"


def test_a_sweep_that_cannot_be_written_and_flags_between_overrides(call, tmp_path):
    (tmp_path / "taken").touch()
    result = call("train", "model=mlp", "-m", "results_dir=taken", "seed=0,1")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "taken: multirun.yaml cannot be written there (File exists); name another results_dir" in result.stderr


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, '{"state": ["finished"]}', '{"state": "interrupted", "threads": 1000000}']
)
def test_a_damaged_summary_costs_no_training(train, content: str):
    options = ("model=alexnet_small", "trainer.epochs=1", "logger=none")
    folder = train(*options)
    summary, metrics = json.loads((folder / "summary.json").read_text()), (folder / "metrics.csv").read_bytes()
    (folder / "summary.json").write_text(content)
    train(*options)
    again = json.loads((folder / "summary.json").read_text())
    assert again["state"] == "finished" and again["threads"] == 1 and again["best"] == summary["best"]
    assert (folder / "metrics.csv").read_bytes() == metrics


def test_missing_data_are_named(call):
    result = call("train", "dataset=cifar10", "dataset.root=nowhere", "dataset.download=false", *SMALL)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "nowhere/cifar-10-batches-py" in result.stderr and "dataset.root" in result.stderr


def test_files_of_a_run(command, tmp_path):
    result = command("train", "norm=zca_pi", *SMALL)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "results" / "runs").glob("resnet18_zca_pi_digits-seed0-????????")
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert summary["state"] == "finished" and summary["epochs"] == len(rows) == 2 and summary["steps"] == 8
    assert summary["final"]["test_accuracy"] == float(rows[-1]["test_accuracy"])
    assert summary["best"]["test_accuracy"] == max(float(row["test_accuracy"]) for row in rows)
    assert summary["threads"] == 1 and summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"config.yaml", "overrides.yaml"} <= {path.name for path in (folder / ".hydra").iterdir()}
    assert {"last.pt", "previous.pt", "best.pt"} == {path.name for path in (folder / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("chosen", "dataset", "name"),
    [
        ({}, "digits", "resnet18_batch_digits"),
        ({"norm": "zca_pi", "backward": "pi"}, "digits", "resnet18_zca_pi_digits"),
        ({"norm": "zca", "backward": "taylor", "optimizer": "adam"}, "cifar10", "resnet18_zca_cifar10_taylor_adam"),
        ({"norm": "zca_svd", "backward": "svd", "init": "svd"}, "digits", "resnet18_zca_svd_digits_svd"),
        ({"conv": "tt", "dataset": "image_folder"}, "my flowers/2", "resnet18_batch_tt_my-flowers-2"),
    ],
)
def test_a_run_is_named_by_its_choices(chosen: dict[str, str], dataset: str, name: str):
    defaults = {"model": "resnet18", "norm": "batch", "backward": "exact", "optimizer": "sgd", "schedule": "step"}
    assert run_name(defaults | chosen, dataset) == name
