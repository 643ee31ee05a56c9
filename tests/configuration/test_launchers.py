"""Sweeps whose jobs run elsewhere."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SWEEP = ("seed=0,1", "norm=zca_pi", "model.width=8", "dataset.train_images=320", "trainer.epochs=6", "trainer.checkpoint_every=3")


def checkpoint(folder: Path) -> dict[str, object]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def begun(results: Path) -> list[Path]:
    """The runs that have a checkpoint and are not over, by seed."""
    folders = [path.parent.parent for path in results.glob("*/checkpoints/last.pt") if 0 < checkpoint(path.parent.parent)["step"] < 100]
    return sorted(folders, key=lambda folder: checkpoint(folder)["config"]["seed"])


def job_of(folder: Path) -> int:
    return int(re.search(r"process (\d+)", (folder / "lock").read_text())[1])


@pytest.mark.slow
def test_submitit_goes_on_where_its_jobs_were_killed(train: Callable[..., Path], tmp_path: Path):
    expected = [checkpoint(train(f"seed={seed}", *SWEEP[1:]))["model"] for seed in (0, 1)]
    results = tmp_path / "sweep"
    arguments = ["hydra/launcher=submitit_local", "scale=smoke", "trainer.threads=1", *SWEEP, f"results_dir={results}"]
    start = [sys.executable, "-m", "spectral_repro.train", "-m", *arguments]
    sweep = subprocess.Popen(start, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 240
    while len(begun(results)) < 2:
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    killed, preempted = begun(results)
    os.kill(job_of(killed), signal.SIGKILL)
    os.kill(job_of(preempted), signal.SIGUSR2)
    output, _ = sweep.communicate(timeout=240)
    print(output)
    assert sweep.returncode == 1
    print([p.read_text()[-1500:] for p in results.glob(".submitit/*/*.out")])
    again = subprocess.run(start, text=True, capture_output=True)
    print(again.stdout, again.stderr)
    for folder, weights in zip((killed, preempted), expected, strict=True):
        found = checkpoint(folder)["model"]
        assert all(torch.equal(weights[key], found[key]) for key in weights)
    assert again.returncode == 0
