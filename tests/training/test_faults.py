"""Faults that a run must survive, one test for each: it can be resumed, ends with the same bits, and reports the fault."""

import errno
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import socket
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from PIL import Image

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training.faults import explain
from spectral_repro.training.files import PARTIAL, holder
from spectral_repro.training.run_folder import RunFolder
from spectral_repro.training.trainer import Trainer

RUN = (
    "model=alexnet_small",
    "norm=zca_pi",
    "norm.group_size=4",
    "optimizer=sgdg",
    "constraint=divide_by_largest",
    "logger=none",
)
STEPS = (*RUN, "trainer.checkpoint_every=2", "trainer.log_every=1", "schedule=cosine")
FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Outcome:
    """A run's end: its weights and the rows of its metrics without timings."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.weights = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]
        header, *rows = (line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
        timings = {header.index(name) for name in ("images_per_second", "step_time", "seconds")}
        self.rows = [[cell for column, cell in enumerate(row) if column not in timings] for row in rows]

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "summary.json").read_text())

    def __eq__(self, other: "Outcome") -> bool:
        alike = all(torch.equal(self.weights[key], other.weights[key]) for key in self.weights | other.weights)
        return alike and self.rows == other.rows and [row[0] for row in self.rows] == ["1", "2"]


@pytest.fixture
def undisturbed(train, tmp_path) -> Callable[..., Outcome]:
    """What a run ends with that nothing happens to; it leaves no trace."""

    def run(*overrides: str) -> Outcome:
        outcome = Outcome(train(*overrides))
        shutil.rmtree(tmp_path / "runs")
        return outcome

    return run


@pytest.fixture
def images(tmp_path) -> tuple[str, ...]:
    """A data set of files that a process decodes anew in every epoch."""
    generator = torch.Generator().manual_seed(0)
    for split, images in (("train", 12), ("test", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = torch.randint(256, (16, 16, 3), dtype=torch.uint8, generator=generator)
                Image.fromarray(pixels.numpy()).save(folder / f"{number:02}.png")
    sizes = ("dataset.num_classes=2", "dataset.image_size=16", "dataset.crop_padding=0", "dataset.batch_size=4")
    numbers = ("dataset.train_images=24", "dataset.test_images=4", "dataset.memory_limit_gib=0", "dataset.workers=1")
    return ("dataset=image_folder", f"dataset.root={tmp_path / 'images'}", *sizes, *numbers)


def summary(results: Path) -> dict:
    (path,) = results.glob("*/summary.json")
    return json.loads(path.read_text())


def stop_before(number: int, act: Callable[[], None], real: Callable, calls: Iterator[int] | None = None) -> Callable:
    """The function, which in its call of this number, from 0, does something before anything else; ``calls`` counts them."""
    calls = calls or count()

    def function(*arguments: object, **options: object) -> object:
        if next(calls) == number:
            act()
        return real(*arguments, **options)

    return function


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start(train: Callable, overrides: tuple[str, ...]) -> int:
    """The exit status of a process of its own that trains: negative, the signal that ended it."""
    process = FORK.Process(target=train, args=overrides)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize(
    ("method", "number"), [("step", 3), ("evaluate", 1)], ids=["in a step", "in the evaluation of the second epoch"]
)
def test_killed(train, undisturbed, monkeypatch, method: str, number: int):
    expected = undisturbed(*STEPS)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, method, stop_before(number, kill, getattr(Trainer, method)))
        assert start(train, STEPS) == -signal.SIGKILL
    assert Outcome(train(*STEPS)) == expected


def test_killed_in_every_write(train, undisturbed, tmp_path, monkeypatch):
    """Run number n is killed before the 3 n-th of the calls that write a file whole: two of fsync, one or two of replace."""
    expected, kills = undisturbed(*STEPS), 0
    while True:
        with monkeypatch.context() as patch:
            calls = count()
            for place, name in ((os, "fsync"), (Path, "replace")):
                patch.setattr(place, name, stop_before(3 * kills, kill, getattr(place, name), calls))
            if start(train, STEPS) == 0:
                break
        kills += 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert kills > 5 and Outcome(folder) == expected
    assert not list(folder.rglob(f"*{PARTIAL}"))


def test_a_request_to_stop_in_the_evaluation(train, undisturbed, tmp_path, monkeypatch):
    """SIGTERM: what is trained is kept before the evaluation is over."""
    options = (*STEPS, "pooling=gcp", "pooling.channels=4", "norm.truncation=none", "backward=hybrid", "backward.switch=0.5")
    expected = undisturbed(*options)
    with monkeypatch.context() as patch:
        ask = stop_before(0, lambda: os.kill(os.getpid(), signal.SIGTERM), Trainer.evaluate)
        patch.setattr(Trainer, "evaluate", ask)
        with pytest.raises(KeyboardInterrupt):
            train(*options)
    left = summary(tmp_path / "runs")
    assert left["state"] == "interrupted" and left["steps"] == 4 and "final" not in left
    assert Outcome(train(*options)) == expected


@pytest.mark.parametrize("damage", ["one bit", "gone", "code"])
def test_a_damaged_last_checkpoint(train, undisturbed, monkeypatch, capsys, tmp_path, damage: str):
    expected = undisturbed(*STEPS)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop_before(7, kill, Trainer.step))
        start(train, STEPS)
    (last,) = tmp_path.glob("runs/*/checkpoints/last.pt")
    content = last.read_bytes()
    if damage == "gone":
        last.unlink()
    else:
        largest = max(zipfile.ZipFile(last).infolist(), key=lambda record: record.file_size)
        place = largest.header_offset + largest.file_size // 2
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        code = pickle.dumps({"model": os.system}, protocol=2)
        last.write_bytes({"one bit": flipped, "code": code}[damage])
    assert Outcome(train(*STEPS)) == expected
    fault = {"one bit": "damaged, ", "code": "holds the type ", "gone": ""}[damage]
    warned = [line for line in capsys.readouterr().err.splitlines() if line.endswith("; trying the previous one")]
    assert [line.startswith(f"{last}: {fault}") for line in warned] == [True] * (damage != "gone")


def test_a_full_disk(train, undisturbed, tmp_path):
    """No file may grow beyond what a checkpoint takes."""
    expected, limits = undisturbed(*RUN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"File too large: free some space, .*; the same command continues") as error:
            train(*RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = summary(tmp_path / "runs")
    assert left["state"] == "failed" and left["failure"]["error"] in str(error.value)
    assert str(next((tmp_path / "runs").iterdir())) in str(error.value)
    assert Outcome(train(*RUN)) == expected


def test_a_folder_that_may_only_be_read(train, undisturbed, tmp_path, monkeypatch):
    """From the first checkpoint on."""
    expected = undisturbed(*RUN)

    def refuse() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "last.pt")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop_before(8, refuse, os.fsync))
        with pytest.raises(UserError, match=r"Read-only file system: 'last.pt': .*permissions"):
            train(*RUN)
    assert summary(tmp_path / "runs")["failure"]["error"].startswith("[Errno 30] Read-only file system")
    assert Outcome(train(*RUN)) == expected


def test_a_run_that_another_process_is_running(train, tmp_path, monkeypatch):
    at_work, go_on = FORK.Event(), FORK.Event()

    def wait() -> None:
        at_work.set()
        go_on.wait(60)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop_before(3, wait, Trainer.step))
        process = FORK.Process(target=train, args=RUN)
        process.start()
        at_work.wait(60)
    (folder,) = (tmp_path / "runs").iterdir()
    who = f"process {process.pid} on {socket.gethostname()}"
    assert holder(folder / "lock") == who
    for more in ((), ("force=true",)):
        with pytest.raises(UserError, match=f"{who} is running it; wait until it ends"):
            train(*RUN, *more)
    go_on.set()
    process.join(60)
    assert process.exitcode == 0 and summary(tmp_path / "runs")["state"] == "finished"
    assert holder(folder / "lock") is None


@pytest.mark.parametrize(
    "exhaust",
    [lambda: torch.empty(10**14), lambda: bytearray(10**17), lambda: torch.cuda.OutOfMemoryError("CUDA out of memory.")],
    ids=["torch", "python", "cuda"],
)
def test_out_of_memory(train, undisturbed, tmp_path, monkeypatch, exhaust: Callable):
    expected = undisturbed(*RUN)

    def fail() -> None:
        raise exhaust()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop_before(5, fail, Trainer.step))
        with pytest.raises(UserError, match=r"out of memory with dataset\.batch_size=16: lower it") as error:
            train(*RUN)
    assert error.value.__context__ is None, "the error holds on to no network"
    assert summary(tmp_path / "runs")["failure"]["error"].startswith("out of memory with dataset.batch_size=16")
    assert Outcome(train(*RUN)) == expected


# torch raises the error in a signal handler, which may run inside a callback of the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_is_killed(train, undisturbed, images, tmp_path, monkeypatch):
    expected = undisturbed(*RUN, *images)

    def kill_a_worker() -> None:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop_before(8, kill_a_worker, Trainer.step))
        with pytest.raises(UserError, match=r"a process that decodes images was killed.*dataset\.workers"):
            train(*RUN, *images)
    assert summary(tmp_path / "runs")["state"] == "failed"
    assert Outcome(train(*RUN, *images)) == expected


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), EOFError()])
def test_a_worker_that_is_killed_while_it_hands_over_a_batch(error: Exception):
    images = compose(["dataset=image_folder", "dataset.root=x", "dataset.num_classes=2", "dataset.name=x"])
    assert explain(error, images).startswith("a process that decodes images was killed")
    assert "killed" not in str(explain(error, compose(["dataset=digits"])))


def test_a_data_file_that_is_cut_while_it_is_read(train, undisturbed, images, tmp_path, monkeypatch):
    images = (*images, "dataset.workers=0")
    expected, file = undisturbed(*RUN, *images), tmp_path / "images" / "train" / "a" / "07.png"
    content = file.read_bytes()
    with monkeypatch.context() as patch:
        cut = stop_before(5, lambda: file.write_bytes(content[:300]), Trainer.step)
        patch.setattr(Trainer, "step", cut)
        with pytest.raises(UserError, match=r"07\.png cannot be read as an image .*: restore it"):
            train(*RUN, *images)
    left = summary(tmp_path / "runs")
    assert left["state"] == "failed" and "07.png" in left["failure"]["error"]
    file.write_bytes(content)
    assert Outcome(train(*RUN, *images)) == expected


def test_a_loss_that_is_not_a_number(train):
    left = json.loads((train(*RUN, "optimizer=sgd", "optimizer.lr=1e30") / "summary.json").read_text())
    assert left["state"] == "diverged" and left["failure"]["layer"]
    train(*RUN, "optimizer=sgd", "optimizer.lr=1e30")


def test_a_request_to_stop_in_a_step(train, interrupt, undisturbed, tmp_path):
    expected = undisturbed(*RUN)
    interrupt(*RUN)
    assert summary(tmp_path / "runs")["state"] == "interrupted" and summary(tmp_path / "runs")["steps"] == 1
    assert Outcome(train(*RUN)) == expected


def test_force_counts_for_the_first_start_of_a_job_of_slurm(train, interrupt, tmp_path, monkeypatch, capsys):
    interrupt(*RUN, "force=true")
    assert "the same command without force=true continues from the last checkpoint" in capsys.readouterr().out
    config = compose([*RUN, "scale=smoke", f"results_dir={tmp_path / 'runs'}", "force=true"])
    for restarts, found in (("0", []), ("1", ["last.pt"])):
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        with RunFolder(config, "test") as run:
            assert [path.name for path in run.checkpoints] == found
