import time

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


def test_the_rehearsal_is_not_timed():
    naps = iter([0.02, 0.0] * 3)
    (row,) = time_interleaved({"a": lambda: lambda: time.sleep(next(naps))}, CPU, seconds=0, least=3).itertuples()
    assert row.backward_ms < 10


def test_times_of_both_passes():
    def forward():
        time.sleep(0.002)
        return lambda: time.sleep(0.006)

    (row,) = time_interleaved({"slow": forward}, CPU, seconds=0, least=3).itertuples()
    assert row.forward_ms >= 2 and row.backward_ms >= 6 and row.total_ms >= 8
    assert row.total_low_ms <= row.total_ms <= row.total_high_ms


def test_rounds_end_with_the_time_or_their_number():
    assert time_interleaved({"a": lambda: lambda: None}, CPU, seconds=60, least=1, most=7)["rounds"].tolist() == [7]
    (rounds,) = time_interleaved({"a": lambda: lambda: time.sleep(0.01)}, CPU, seconds=0.05, least=1)["rounds"]
    assert 1 <= rounds <= 5
