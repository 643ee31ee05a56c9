"""A killed run is resumed and ends with the same bits."""

import json
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TRAIN = (
    "norm=zca_pi",
    "model.width=8",
    "dataset.batch_size=16",
    "dataset.train_images=320",
    "dataset.test_images=32",
    "trainer.epochs=2",
    "trainer.threads=1",
    "trainer.checkpoint_every=3",
    "schedule=cosine",
)


def run_folder(results: Path) -> Path:
    (folder,) = results.glob("resnet18_zca_pi_digits_cosine-seed0-*")
    return folder


def weights(results: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_folder(results) / "checkpoints" / "last.pt", weights_only=True)["model"]


def reached_step(results: Path) -> int:
    for path in results.glob("*/checkpoints/last.pt"):
        return torch.load(path, weights_only=True)["step"]
    return 0


def losses(results: Path) -> list[str]:
    rows = (run_folder(results) / "metrics.csv").read_text().splitlines()
    return [",".join(row.split(",")[:5]) for row in rows]  # without the timings


def logged_steps(results: Path) -> list[int]:
    events = EventAccumulator(str(run_folder(results)))
    events.Reload()
    return [event.step for event in events.Scalars("test/accuracy")]


@pytest.fixture(scope="module")
def uninterrupted(call_in, tmp_path_factory) -> Path:
    results = tmp_path_factory.mktemp("uninterrupted")
    assert call_in(results, "train", *TRAIN, f"results_dir={results}").returncode == 0
    return results


def check_the_same(uninterrupted: Path, results: Path) -> None:
    expected, found = weights(uninterrupted), weights(results)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert losses(results) == losses(uninterrupted)
    assert logged_steps(results) == logged_steps(uninterrupted) == [20, 40]
    assert json.loads((run_folder(results) / "summary.json").read_text())["state"] == "finished"


def test_killed_run_ends_with_the_same_bits(uninterrupted: Path, call, tmp_path: Path):
    """In a process of its own, killed wherever it is, perhaps while it writes."""
    start = [sys.executable, "-m", "spectral_repro.train", *TRAIN, f"results_dir={tmp_path}"]
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not 0 < reached_step(tmp_path) < 20 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait(60)
    step = reached_step(tmp_path)
    assert 0 < step < 40 and step % 20, "the run was to be stopped in the middle of an epoch"
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["state"] == "running"
    assert call("train", *TRAIN, f"results_dir={tmp_path}").returncode == 0
    check_the_same(uninterrupted, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_run_ends_with_the_same_bits(number: signal.Signals, uninterrupted: Path, call, tmp_path, monkeypatch):
    steps, step = count(1), torch.optim.SGD.step

    def interrupted(*arguments, **options):
        if next(steps) == 5:
            signal.raise_signal(number)
        return step(*arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", interrupted)
    result = call("train", *TRAIN, f"results_dir={tmp_path}")
    assert result.returncode == 130 and "interrupted; the same command continues from the last checkpoint" in result.stdout
    assert reached_step(tmp_path) == 5, "the step is done and kept"
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["state"] == "interrupted"
    assert call("train", *TRAIN, f"results_dir={tmp_path}").returncode == 0
    check_the_same(uninterrupted, tmp_path)


def test_same_command_twice_is_bit_identical_and_a_finished_run_is_left_alone_unless_forced(uninterrupted: Path, call):
    first, path = weights(uninterrupted), run_folder(uninterrupted) / "checkpoints" / "last.pt"
    before = path.stat().st_mtime_ns
    again = call("train", *TRAIN, f"results_dir={uninterrupted}")
    assert again.returncode == 0 and "finished already" in again.stdout
    assert path.stat().st_mtime_ns == before
    forced = call("train", *TRAIN, f"results_dir={uninterrupted}", "force=true", "trainer.log_every=7")
    assert forced.returncode == 0 and path.stat().st_mtime_ns > before
    assert all(torch.equal(first[key], value) for key, value in weights(uninterrupted).items())


@pytest.mark.parametrize(
    "options",
    [
        ("precision=bfloat16",),
        ("precision=float16", "optimizer=adamw"),
        ("trainer.channels_last=false",),
        ("optimizer=sgdg",),
        ("optimizer=muon", "optimizer.kernels=operator"),
        ("precision=float16", "optimizer=adamg", "optimizer.reset_on_lr_change=true"),
        ("trainer.ema_decay=0.9", "trainer.accumulate=2", "trainer.mixup=0.5", "trainer.cutmix=1", "loss=cross_entropy"),
    ],
)
def test_stopped_after_a_step_in_every_precision(train, interrupt, options: tuple[str, ...]):
    """A request to stop that comes before the first step is over."""
    options = (*options, "norm=pca_pi", "model.norm_placement=stem")
    expected = torch.load(train(*options) / "checkpoints" / "last.pt", weights_only=True)
    interrupt(*options, "force=true")
    found = torch.load(train(*options) / "checkpoints" / "last.pt", weights_only=True)
    assert all(torch.equal(expected["model"][key], found["model"][key]) for key in expected["model"])
    assert expected["scaler"] == found["scaler"]
    assert expected.keys() == found.keys() and expected.get("ema_steps") == found.get("ema_steps")
    assert all(torch.equal(value, found["ema"][key]) for key, value in expected.get("ema", {}).items())


def test_an_evaluation_that_draws_random_numbers_changes_no_training(train):
    """The power iteration of the running covariance starts at random vectors."""
    options = ("norm=zca", "norm.group_size=4", "backward=power", "model=alexnet_small", "logger=none")
    first, second = (
        torch.load(train(*options, every, "force=true") / "checkpoints" / "last.pt", weights_only=True)["model"]
        for every in ("trainer.evaluate_every=1", "trainer.evaluate_every=2")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
