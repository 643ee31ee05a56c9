"""scripts/soak.py with one kill of one small run."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "soak.py"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_run_that_is_killed_ends_as_one_that_is_not(monkeypatch, capsys):
    soak = runpy.run_path(str(SCRIPT))
    small = (
        "dataset=random",
        "dataset.image_size=8",
        "scale=smoke",
        "logger=none",
        "trainer.epochs=1",
        "trainer.checkpoint_every=1",
    )
    values = soak["main"].__globals__
    monkeypatch.setitem(values, "EXPERIMENTS", (("song2021/cifar10_taylor", "model.width=4", "pooling.channels=4"),))
    monkeypatch.setitem(values, "SMALL", (*small, "trainer.threads=1"))
    assert soak["main"](kills=1, seed=0) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert last.startswith("1 kills in ") and rows[-1].split()[-6:] == ["0"] * 6
