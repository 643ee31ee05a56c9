"""Several processes train the same network as one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training import execute as execution
from spectral_repro.training import trainer
from spectral_repro.training.execute import execute
from spectral_repro.training.processes import first_node, join, slurm_task

MLP = ("model=mlp", "model.depth=3", "model.width=8", "norm.eps=1e-1")
CASES = {
    "batch": ("init=svd", "init.images=16"),
    "zca": ("norm=zca", "norm.group_size=4", *MLP, "constraint=divide_by_largest", "constraint.linear_to=1"),
    "pca": ("norm=pca", "norm.group_size=4", "norm.components=2", *MLP, "gradient_clipping=norm", "output_gap=singular_values"),
    "pooling": ("pooling=gcp", "pooling.channels=6", "trainer.channels_last=false"),
    "tt_clip": ("conv=tt", "conv.rank=6", "constraint=clip", "constraint.clip_to=0.5", "penalty=orthogonal"),
    "instance": ("norm=batch", "norm._target_=torch.nn.InstanceNorm2d", "+norm.track_running_stats=true"),
    "sgdg": ("optimizer=sgdg",),
    "parts": ("model=mlp", "model.depth=3", "model.width=8", "norm=null", "trainer.accumulate=2", "trainer.ema_decay=0.5"),
}
UNEQUAL = ("dataset.train_images=43", "dataset.test_images=33", "dataset.batch_size=16")  # a last batch of 11, and of 1
SMALL = ("trainer.epochs=1", "logger=none")
COMMON = ("scale=smoke", "model=alexnet_small", "trainer.threads=1", "optimizer.lr=0.001", *UNEQUAL, *SMALL)
METRICS = ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_top5_accuracy", "largest_gradient"]
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}

SCRIPT = """
import json, sys, torch
from spectral_repro.configuration.compose import compose
from spectral_repro.training.execute import execute

for dtype, name, overrides in json.load(open(sys.argv[1])):
    torch.set_default_dtype(getattr(torch, dtype))
    execute(compose(overrides), name, overrides)
"""


def run_of(dtype: str, case: str, results: Path) -> tuple[str, str, list[str]]:
    return dtype, case, [*COMMON, *CASES[case], f"results_dir={results / dtype}"]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> Path:
    """Every case in both dtypes, by one pair of processes."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    runs = [run_of(dtype, case, folder) for dtype in TOLERANCE for case in CASES]
    (folder / "runs.json").write_text(json.dumps(runs))
    arguments = ["--standalone", "--nproc_per_node=2", str(folder / "script.py"), str(folder / "runs.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments], check=True, env=environment, capture_output=True
    )
    return folder


@pytest.fixture(params=TOLERANCE)
def dtype(request) -> Iterator[str]:
    torch.set_default_dtype(getattr(torch, request.param))
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_does(case: str, dtype: str, of_two: Path, tmp_path: Path):
    _, _, overrides = run_of(dtype, case, tmp_path)
    execute(compose(overrides), case, overrides)
    one, two = (next(path.glob(f"{dtype}/{case}-*")) for path in (tmp_path, of_two))
    expected, found = (torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (one, two))
    for weights in {"model", "ema"} & expected.keys():
        for key, value in expected[weights].items():
            error = (found[weights][key] - value).abs().max() / value.abs().max().clamp_min(1)
            assert error < TOLERANCE[dtype], key
    columns = [*METRICS, "output_gap"] if "output_gap=singular_values" in CASES[case] else METRICS
    expected, found = (pd.read_csv(folder / "metrics.csv")[columns] for folder in (one, two))
    pd.testing.assert_frame_equal(found, expected, rtol=TOLERANCE[dtype])


def test_the_tasks_of_a_slurm_job_train_what_one_process_does(tmp_path: Path):
    """Two processes with the variables that srun sets; none of them waits for the lock of the other."""
    port = 30_000 + os.getpid() % 10_000
    shared = {"SLURM_JOB_ID": "1000", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NODEID": "0", "OMP_NUM_THREADS": "1"}
    shared |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2", "MASTER_PORT": str(port)}
    overrides = [*COMMON, *CASES["pca"]]
    command = [sys.executable, "-m", "spectral_repro.train", *overrides, f"results_dir={tmp_path / 'two'}"]
    started = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "PYTHONPATH": str(Path.cwd())},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in range(2)
    ]
    ended = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert "epoch 1/1" in ended[0][0] and ended[1][0] == ""
    execute(compose([*overrides, f"results_dir={tmp_path / 'one'}"]), "one", overrides)
    one, two = (next((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert json.loads((two / "summary.json").read_text())["processes"] == 2
    expected, found = (torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"] for folder in (one, two))
    for key, value in expected.items():
        error = (found[key] - value).abs().max() / value.abs().max().clamp_min(1)
        assert error < TOLERANCE["float32"], key


TASK = {
    **{"SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "7", "SLURM_NTASKS": "9"},
    **{"SLURM_PROCID": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "3"},
    **{"SLURM_STEP_NODELIST": "gpu[07-09,12]", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"},
}


@pytest.mark.parametrize("damage", [{"SLURM_JOB_ID": None}, {"SLURM_STEP_NUM_TASKS": "x"}, {"SLURM_STEP_TASKS_PER_NODE": "2"}])
def test_a_task_without_all_variables_is_named(damage, monkeypatch):
    for name, value in (TASK | damage).items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="the environment variables of torchrun or Slurm are incomplete or wrong") as error:
        join()
    assert "\n" not in str(error.value)


def test_environment_variables_of_a_slurm_task():
    assert slurm_task(TASK) == {
        "RANK": "6",
        "WORLD_SIZE": "7",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(20_000 + 123458 % 20_000),
    }
    given = slurm_task(TASK | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5", "SLURM_NODEID": "2"})
    assert (given["MASTER_ADDR"], given["MASTER_PORT"], given["LOCAL_WORLD_SIZE"]) == ("10.0.0.1", "5", "2")


@pytest.mark.parametrize(
    "environment",
    [{}, TASK | {"SLURM_STEP_NUM_TASKS": "1"}, {key: value for key, value in TASK.items() if "STEP" not in key}],
    ids=["without Slurm", "one task", "a batch script"],
)
def test_single_slurm_tasks_train_alone(environment: dict[str, str]):
    assert slurm_task(environment) == {}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("a,b", "a"), ("n[2-3].cluster", "n2.cluster"), ("x[01,05-07],y", "x01"), ("r1-n[3-4]", "r1-n3")],
)
def test_the_first_node_of_a_list(nodes: str, first: str):
    assert first_node(nodes) == first


def test_processes_with_different_settings_do_not_train_together(train: Callable[..., Path], monkeypatch):
    monkeypatch.setattr(execution, "of_all_ranks", lambda value: [value, "another"])
    with pytest.raises(UserError, match=r"started together have different settings: give all the same .* \(srun --ntasks=1\)"):
        train(*SMALL)


def test_a_run_is_resumed_with_the_same_number_of_processes(train: Callable[..., Path]):
    folder = train(*SMALL)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["processes"] == 1
    (folder / "summary.json").write_text(json.dumps(summary | {"state": "interrupted", "processes": 2}))
    with pytest.raises(UserError, match=f"{folder} began with 2 processes; start it with as many, or use force=true"):
        train(*SMALL)


def test_errors_for_settings_of_several_processes(train: Callable[..., Path], monkeypatch):
    monkeypatch.setattr(trainer, "replicas", lambda: 12)
    with pytest.raises(UserError, match=r"^dataset: the smallest training batch has 11 images, fewer than the 12 processes"):
        train(*SMALL, *UNEQUAL)
    monkeypatch.setattr(execution, "replicas", lambda: 2)
    with pytest.raises(UserError, match="study: measured by one process; start it without torchrun, or by srun --ntasks=1"):
        train("study=depth")
