"""Handlers of signals, and trainings in threads."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spectral_repro.training.faults import StopRequest, ignoring_child_exits

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*ASKING, signal.SIGCHLD)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_second_request_acts_at_once_and_handlers_come_back():
    heard = []
    signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    before = [signal.getsignal(number) for number in ASKING]
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop.asked == signal.SIGUSR2 and not heard
        os.kill(os.getpid(), signal.SIGUSR2)
        assert heard == [signal.SIGUSR2]
    assert [signal.getsignal(number) for number in ASKING] == before


def test_a_handler_that_python_did_not_set_is_replaced_by_the_default(monkeypatch):
    real = signal.signal
    monkeypatch.setattr(signal, "signal", lambda number, handler: real(number, handler) and None)
    with StopRequest(), ignoring_child_exits():
        pass
    monkeypatch.undo()
    assert [signal.getsignal(number) for number in (*ASKING, signal.SIGCHLD)] == [signal.SIG_DFL] * 4


def test_a_run_in_another_thread(train: Callable[..., Path]):
    before = [signal.getsignal(number) for number in ASKING]
    with ThreadPoolExecutor(1) as pool:
        folder = pool.submit(train, "model=alexnet_small", "trainer.epochs=1", "logger=none").result()
    assert '"state": "finished"' in (folder / "summary.json").read_text()
    assert [signal.getsignal(number) for number in ASKING] == before
