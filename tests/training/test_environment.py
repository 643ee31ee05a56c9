"""The environment of a run: device, machine, versions, memory."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from spectral_repro.errors import UserError
from spectral_repro.training import environment


def test_a_run_says_where_it_ran(train):
    summary = json.loads((train() / "summary.json").read_text())
    machine = summary["machine"]
    assert machine["platform"] == platform.platform()
    assert machine["processors"].startswith(f"{os.cpu_count()} x ") and summary["device"] == machine["processors"]
    assert machine["memory_gib"] == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, abs=0.1)
    assert summary["threads"] == 1
    packages = ("torch", "torchvision", "numpy", "hydra-core", "tensorboard")
    assert {name: summary["versions"][name] for name in packages} == {name: version(name) for name in packages}


def test_a_gpu_is_described(monkeypatch):
    """With a driver and a card put in place of those that the machine may not have."""
    driver = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0\n"
    monkeypatch.setattr(environment, "_text", lambda path: driver if "nvidia" in str(path) else "")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    assert environment.describe_device(torch.device("cuda")) == "Card"
    machine = environment.describe_machine(torch.device("cuda"))
    assert (machine["gpu_memory_gib"], machine["driver"], machine["cuda"]) == (80.0, "550.54.15", "12.4")
    assert "cudnn" in machine and machine["memory_gib"] is None


def test_the_commit_and_whether_it_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("1\n")
    monkeypatch.setattr(environment, "__file__", str(package / "code.py"))
    assert environment.git_state() is None

    def git(*arguments: str) -> str:
        named = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(named, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    assert environment.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (package / "code.py").write_text("2\n")
    assert environment.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": True}


@pytest.mark.parametrize(
    ("cards", "name", "job", "expected"),
    [(0, "auto", 1, "cpu"), (1, "auto", 3, "cuda"), (4, "auto", 6, "cuda:2"), (4, "cuda:1", 6, "cuda:1"), (4, "cpu", 6, "cpu")],
)
def test_the_jobs_of_a_sweep_take_the_cards_in_turn(monkeypatch, cards: int, name: str, job: int, expected: str):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert environment.choose_device(name, job) == torch.device(expected)


def test_every_process_of_a_run_has_a_card_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(environment, "replicas", lambda: 4)
    for local, name in (("4", "auto"), ("2", "cuda:1")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        with pytest.raises(UserError, match=f"device={name}: {local} processes need one GPU each, and 2 are here"):
            environment.choose_device(name)


def test_a_task_of_slurm_may_see_a_card_of_its_own_alone(monkeypatch):
    cards = ["a", "b"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="a"))
    monkeypatch.setattr(environment, "replicas", lambda: 2)
    monkeypatch.setattr(environment, "of_all_ranks", lambda value: cards)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert environment.choose_device("auto") == torch.device("cuda:0")
    cards[1] = "a"
    with pytest.raises(UserError, match="2 processes need one GPU each, and 1 are here"):
        environment.choose_device("auto")


FAULTS = """
import resource, torch
from spectral_repro.training.environment import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(2**23).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed()
faults()
print(faults())
"""


RESIDENT = """
import torch
from spectral_repro.training.environment import keep_freed, return_freed

def resident():
    return int(open("/proc/self/statm").read().split()[1])

keep_freed()
torch.empty(2**24).fill_(1)
kept = resident()
return_freed()
print(kept, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_memory_of_freed_tensors_can_be_given_back():
    command = [sys.executable, "-c", RESIDENT]
    kept, left = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert kept - left > 0.9 * 2**26 / os.sysconf("SC_PAGESIZE")


def test_memory_of_freed_tensors_is_not_asked_for_again():
    command = [sys.executable, "-c", FAULTS]
    returned, kept = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert 5 * kept < returned or platform.libc_ver()[0] != "glibc"
