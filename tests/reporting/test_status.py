"""python -m spectral_repro.report status=true: the progress of all runs."""

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from spectral_repro.errors import UserError
from spectral_repro.reporting.status import status


def hold(path: Path, held, done) -> None:
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        held.set()
        done.wait(60)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_state_progress_time_left_and_metric_of_every_run(make_run, runs_folder):
    fork = multiprocessing.get_context("fork")
    half = {"steps": 50, "total_steps": 200, "wall_time_s": 1000.0}
    make_run(seed=1, name="whole", final={"test_accuracy": 80.0})
    make_run(seed=2, name="broken", state="failed", **half)
    make_run(seed=3, name="lost", state="running", **half)
    make_run(seed=4, name="new", state="running")
    busy = make_run(seed=5, name="busy", state="running", **half)
    os.utime(busy / "summary.json", (time.time() - 600,) * 2)
    held, done = fork.Event(), fork.Event()
    process = fork.Process(target=hold, args=(busy / "lock", held, done))
    process.start()
    held.wait(60)
    text, notices = status(runs_folder)
    *lines, last = text.splitlines()
    done.set()
    process.join(60)
    found = {line.rpartition(" ")[2].partition("-")[0]: line.split() for line in lines}
    assert found["whole"][:3] == ["finished", "100.0", "%"] and found["whole"][-4:-1] == ["accuracy", "80.00", "%"]
    assert found["broken"][:4] == ["failed", "25.0", "%", found["broken"][-1]]
    assert found["lost"][:4] == ["killed", "25.0", "%", found["lost"][-1]]
    assert found["new"][:3] == ["killed", "0.0", "%"]
    assert found["busy"][:3] == ["running", "25.0", "%"]
    minutes, seconds = found["busy"][3].split(":")
    assert int(minutes) * 60 + int(seconds) == pytest.approx(3000 - 600, abs=20)
    assert notices == [] and last == "5 runs: 1 failed, 1 finished, 2 killed, 1 running"


def test_a_folder_without_runs(tmp_path):
    (tmp_path / "runs").mkdir()
    assert status(tmp_path / "runs") == (f"no runs in {tmp_path / 'runs'}", [])
    with pytest.raises(UserError, match=r"runs=.*elsewhere: no such folder; runs are made by python -m spectral_repro\.train"):
        status(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["runs=r*"], 0, "1 runs: 1 finished"),
        (["runs=kept/runs.csv"], 1, "runs=kept/runs.csv: status=true needs a folder of runs"),
        (["runs=runs", "paper=wang2019"], 1, "status=true: takes only runs=; leave out paper="),
    ],
)
def test_the_status_on_the_command_line(call, make_run, tmp_path, arguments, status, words):
    make_run()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "runs.csv").touch()
    ended = call("report", "status=true", *arguments)
    assert ended.returncode == status and words in ended.stdout + ended.stderr
