"""Loggers: each of them, several at once, and unreachable ones. W&B stays offline."""

import csv
import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb
from omegaconf import OmegaConf
from wandb.proto.wandb_internal_pb2 import Record

from spectral_repro.errors import UserError
from spectral_repro.training.faults import StopRequest
from spectral_repro.training.loggers import Progress

OFFLINE = ("logger=wandb", "logger.wandb.mode=offline")


@pytest.fixture(autouse=True)
def nobody(tmp_path_factory, monkeypatch) -> None:
    """A user who is not logged in and whose home stays as it is."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


class Logged:
    """What W&B wrote of an attempt at a run; its service writes on for a moment after the end."""

    def __init__(self, path: Path):
        deadline, records = time.monotonic() + 60, []
        while not any(record.HasField("exit") for record in records) and time.monotonic() < deadline:
            time.sleep(0.01)
            records = list(read_records(path.read_bytes()))
        (self.run,) = (record.run for record in records if record.HasField("run"))
        (self.exit_code,) = (record.exit.exit_code for record in records if record.HasField("exit"))
        self.config = values(self.run.config.update)
        history = [record.history for record in records if record.HasField("history")]
        self.history = {row.step.num: values(row.item) for row in history}
        self.summary = {key: value for record in records for key, value in values(record.summary.update).items()}


def read_records(data: bytes, start: int = 7, block: int = 32768) -> Iterator[Record]:
    """The whole records of a .wandb file, which is LevelDB's log format after seven bytes."""
    record = b""
    while (body := start + 7) <= len(data):
        _, length, kind = struct.unpack_from("<IHB", data, start)
        start, record = body + length, record + data[body : body + length]
        if start > len(data):
            return
        if kind in (1, 4):  # all of it, or its last part
            yield Record.FromString(record)
            record = b""
        left = block - start % block
        start += left if left < 7 else 0


def values(items: object) -> dict[str, object]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def logged(run: Path) -> list[Logged]:
    return [Logged(path) for path in sorted(run.glob("wandb/offline-run-*/*.wandb"))]


def read_summary(run: Path) -> dict[str, object]:
    return json.loads((run / "summary.json").read_text())


def stop_after_a_step(train: Callable[..., Path], monkeypatch, *overrides: str) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StopRequest, "__init__", lambda self: setattr(self, "asked", True))
        train(*overrides)


def test_wandb_has_what_the_folder_has(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train("norm=zca", "trainer.log_every=3", "paper=quickstart", *OFFLINE)
    (found,), summary = logged(run), read_summary(run)
    assert (found.run.run_id, found.run.display_name) == (summary["id"], run.name)
    assert (found.run.project, found.run.run_group) == ("spectral_repro", "quickstart")
    config = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "config.yaml"))
    assert {key: found.config[key] for key in config} == config
    assert list(found.history) == [0, 3, 4, 6, 8]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for step, row in zip((4, 8), rows, strict=True):
        for metric in ("test/loss", "test/accuracy", "train/learning_rate"):
            name = metric.removeprefix("train/").replace("/", "_")
            assert found.history[step][metric] == float(row[name])
        assert found.history[step]["spectrum/stem_norm/largest_mean"] > 0
    weighted = (3 * found.history[3]["train/loss"] + found.history[4]["train/loss"]) / 4
    assert weighted == pytest.approx(float(rows[0]["train_loss"]))
    assert {key: found.summary[key] for key in ("state", "final", "best")} == {
        key: summary[key] for key in ("state", "final", "best")
    }
    assert found.exit_code == 0
    assert summary["versions"]["wandb"] == wandb.__version__
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_wandb_continues_the_same_run(train, monkeypatch):
    stop_after_a_step(train, monkeypatch, *OFFLINE)
    run = train(*OFFLINE)
    first, second = logged(run)
    assert first.run.run_id == second.run.run_id == read_summary(run)["id"]
    assert (first.run.resume, second.run.resume) == (False, True)
    assert (list(first.history), list(second.history)) == ([0, 1], [4, 8])
    assert (first.summary["state"], second.summary["state"]) == ("interrupted", "finished")
    assert (first.exit_code, second.exit_code) == (1, 0)
    train("force=true", *OFFLINE)
    (anew,) = logged(run)
    assert not anew.run.resume and list(anew.history) == [0, 4, 8]


def test_steps_that_wandb_has_already_are_not_repeated(train, monkeypatch):
    monkeypatch.setattr(wandb.Run, "starting_step", 5)
    (found,) = logged(train("trainer.log_every=1", *OFFLINE))
    assert list(found.history) == [5, 6, 7, 8]


def test_wandb_tells_a_divergence(train):
    (found,) = logged(train("optimizer.lr=1e30", *OFFLINE))
    assert found.summary["state"] == "diverged" and found.summary["failure"]["layer"]
    assert found.exit_code == 0


def test_loggers_do_not_change_the_result(train):
    losses = set()
    for choice, expected in {"tensorboard": "t", "none": "", "[]": "", "wandb": "w", "[tensorboard,wandb]": "tw"}.items():
        offline = ["logger.wandb.mode=offline"] if "wandb" in choice else []
        run = train(f"logger={choice}", "trainer.epochs=1", "force=true", *offline)
        written = {"t": any(run.glob("events.out.tfevents.*")), "w": bool(logged(run))}
        assert "".join(letter for letter, there in written.items() if there) == expected
        final = read_summary(run)["final"]
        losses.add((final["train_loss"], final["test_loss"]))
    assert len(losses) == 1


def test_a_missing_package_is_named_before_anything_is_lost(train, monkeypatch):
    run = train("logger=none")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'spectral-repro\[wandb\]'$"):
        train("force=true", *OFFLINE)
    assert read_summary(run)["state"] == "finished"


def test_missing_login_is_an_error_before_the_training(train):
    run = train("logger=none")
    with pytest.raises(UserError, match=r"^logger.wandb.mode=online: .*WANDB_API_KEY, or logger.wandb.mode=offline$"):
        train("force=true", "logger=wandb")
    assert read_summary(run)["state"] == "finished"


PRINTED = """
class Printed:
    def __init__(self, prefix: str):
        self.prefix = prefix

    def open(self, run, config, step):
        print(self.prefix, "open", step)

    def log(self, scalars, step):
        print(self.prefix, *sorted(name for name in scalars if name.startswith("test")), step)

    def log_histograms(self, values, step): ...

    def log_images(self, name, images, step): ...

    def close(self):
        print(self.prefix, "close")
"""


def test_a_logger_of_ones_own(train, tmp_path, monkeypatch, capsys):
    """As docs/extending.md says; no package has its name."""
    (tmp_path / "printed.py").write_text(PRINTED)
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    option = "# @package logger.printed\n_target_: printed.Printed\nprefix: mine\n"
    (tmp_path / "conf" / "logger" / "printed.yaml").write_text(option)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SPECTRAL_REPRO_TARGETS", "printed")
    monkeypatch.setenv("SPECTRAL_REPRO_CONFIG_DIR", str(tmp_path / "conf"))
    summary = read_summary(train("logger=[tensorboard,printed]", "model=alexnet_small", "trainer.epochs=1"))
    assert summary["state"] == "finished"
    assert "tensorboard" in summary["versions"] and "printed" not in summary["versions"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mine")]
    assert [lines[0], *lines[-2:]] == ["mine open 0", "mine test/accuracy test/loss test/top5_accuracy 4", "mine close"]


def refuse(*arguments: object, **options: object) -> None:
    raise wandb.errors.CommError("no route to host.\nDetails")


def test_a_server_that_is_not_reached_is_named(train, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "login", refuse)
    with pytest.raises(UserError, match=r"online: no route to host; set WANDB_API_KEY, or logger.wandb.mode=offline$"):
        train("logger=wandb")
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(wandb, "login", lambda verify: True)
    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match="no route to host"):
        train("logger=[tensorboard,wandb]")
    (path,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(path.read_text())["state"] == "failed"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_that_is_killed_keeps_no_lock_of_the_progress_bar():
    progress = Progress("run", 10, 0, 1)
    child = os.fork()
    if child == 0:
        with progress.bar.get_lock():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    later = threading.Thread(target=Progress, args=("run", 10, 0, 1), daemon=True)
    later.start()
    later.join(20)
    assert not later.is_alive()
