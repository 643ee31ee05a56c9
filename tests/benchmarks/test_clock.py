import platform
import subprocess
import sys
import time

import pytest
import torch

from spectral_repro.benchmarks.clock import time_interleaved

CPU = torch.device("cpu")


def test_every_round_times_every_job_right_after_running_it():
    calls = []

    def job(name: str):
        def forward():
            calls.append(f"{name} forward")
            return lambda: calls.append(f"{name} backward")

        return forward

    frame = time_interleaved({"a": job("a"), "b": job("b")}, CPU, seconds=0, least=3)
    assert calls == (["a forward", "a backward"] * 2 + ["b forward", "b backward"] * 2) * 3
    assert frame["name"].tolist() == ["a", "b"] and frame["rounds"].tolist() == [3, 3]
    calls.clear()
    time_interleaved({"a": job("a")}, CPU, seconds=0, least=2, warm_up=False)
    assert calls == ["a forward", "a backward"] * 2


def test_the_warm_up_is_not_timed():
    naps = iter([0.02, 0.0] * 3)
    (row,) = time_interleaved({"a": lambda: lambda: time.sleep(next(naps))}, CPU, seconds=0, least=3).itertuples()
    assert row.backward_ms < 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_freed_memory_is_kept_or_returned():
    """In a process of its own, because the settings of the allocator last. Page faults are counted."""
    script = """
import resource, torch
from spectral_repro.benchmarks.clock import time_interleaved
for keep in (True, False):
    counts = []
    def forward():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(2**24).fill_(1)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return lambda: None
    time_interleaved({"a": forward}, torch.device("cpu"), seconds=0, least=4, keep_memory=keep)
    print(min(counts))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept, returned = map(int, run.stdout.split())
    assert 5 * kept < returned


def test_times_of_both_passes():
    def forward():
        time.sleep(0.002)
        return lambda: time.sleep(0.006)

    (row,) = time_interleaved({"slow": forward}, CPU, seconds=0, least=3).itertuples()
    assert row.forward_ms >= 2 and row.backward_ms >= 6 and row.total_ms >= 8
    assert row.total_low_ms <= row.total_ms <= row.total_high_ms


def test_number_of_rounds_is_bounded_by_time_and_most():
    assert time_interleaved({"a": lambda: lambda: None}, CPU, seconds=60, least=1, most=7)["rounds"].tolist() == [7]
    (rounds,) = time_interleaved({"a": lambda: lambda: time.sleep(0.01)}, CPU, seconds=0.05, least=1)["rounds"]
    assert 1 <= rounds <= 5
