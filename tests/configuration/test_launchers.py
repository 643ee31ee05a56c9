"""Sweeps with launchers, whose jobs run in other processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from spectral_repro.configuration.folders import CONF
from spectral_repro.configuration.sweeps import Installed

LONG = ("norm=zca_pi", "model.width=8", "dataset.train_images=320", "trainer.epochs=6", "trainer.checkpoint_every=3")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
def test_a_launcher_that_is_not_installed(launcher: str, capsys):
    options = OmegaConf.load(CONF / "hydra" / "launcher" / f"{launcher}.yaml")
    options._target_ += "ThatIsMissing"
    config = OmegaConf.create({"hydra": {"launcher": options, "runtime": {"choices": {"hydra/launcher": launcher}}}})
    with pytest.raises(SystemExit):
        Installed().on_multirun_start(config)
    message = f"hydra/launcher={launcher}: the package is not installed; pip install 'spectral-repro[launchers]'\n"
    assert capsys.readouterr().err == message


def test_jobs_of_joblib_decode_images_in_processes_of_their_own(command, tmp_path: Path):
    """joblib changes the start method of its processes; and the jobs print with whatever encoding there is."""
    for split, number in product(("train", "test"), range(8)):
        path = tmp_path / "données" / split / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number,) * 3).save(path)
    options = ("dataset.num_classes=2", "dataset.image_size=8", "dataset.crop_padding=0", "dataset.train_images=8")
    images = ("dataset=image_folder", "dataset.root=données", "dataset.workers=1", "dataset.memory_limit_gib=0", *options)
    small = ("model=mlp", "model.depth=2", "model.width=4", "trainer.epochs=1", "logger=none", "results_dir=résultats")
    result = command(
        "train", "-m", "hydra/launcher=joblib", "scale=smoke", *images, *small, "seed=0,1", PYTHONIOENCODING="ascii"
    )
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("résultats/*/metrics.csv"))) == 2 and "r?sultats" in result.stdout


def checkpoint(folder: Path) -> dict[str, object]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def begun(results: Path) -> list[Path]:
    """The runs that have a checkpoint and are not over, by seed."""
    folders = [path.parent.parent for path in results.glob("*/checkpoints/last.pt")]
    states = {folder: checkpoint(folder) for folder in folders}
    return sorted((folder for folder in folders if states[folder]["step"] < 100), key=lambda f: states[f]["config"]["seed"])


def process_of(folder: Path) -> int:
    return int(re.search(r"process (\d+)", (folder / "lock").read_text())[1])


@pytest.mark.slow
def test_submitit_resumes_killed_jobs(train: Callable[..., Path], tmp_path: Path):
    """One job is killed and runs when the sweep is started again; one gets Slurm's signal and goes on by itself."""
    expected = [checkpoint(train(f"seed={seed}", *LONG))["model"] for seed in (0, 1)]
    results = tmp_path / "sweep"
    sweep = ("hydra/launcher=submitit_local", "scale=smoke", "trainer.threads=1", "seed=0,1", *LONG, f"results_dir={results}")
    start = [sys.executable, "-m", "spectral_repro.train", "-m", *sweep]
    process = subprocess.Popen(start, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 240
    while len(begun(results)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    killed, preempted = begun(results)
    os.kill(process_of(killed), signal.SIGKILL)
    os.kill(process_of(preempted), signal.SIGUSR2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1 and "no result; the same command again" in output and "Traceback" not in output
    assert checkpoint(killed)["step"] < 120 == checkpoint(preempted)["step"]
    (log,) = [text for path in results.glob(".submitit/*/*.out") if "Requeued job" in (text := path.read_text())]
    assert "interrupted; the same command continues from the last checkpoint" in log

    again = subprocess.run(start, text=True, capture_output=True)
    assert again.returncode == 0 and "finished already" in "".join(p.read_text() for p in results.glob(".submitit/*/*.out"))
    for folder, weights in zip((killed, preempted), expected, strict=True):
        found = checkpoint(folder)["model"]
        assert all(torch.equal(weights[key], found[key]) for key in weights)
