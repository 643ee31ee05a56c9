"""The memory layout that a measurement chooses."""

import json
import shutil

import pytest
import torch
from torch import nn

from spectral_repro.configuration.compose import compose
from spectral_repro.reporting.runs import read_run
from spectral_repro.training import autotune, execute

OPTIONS = ("norm=zca", "model.norm_placement=stem", "trainer.epochs=1", "logger=none")


@pytest.mark.parametrize(
    ("overrides", "times", "expected"),
    [
        ([], {(True, False): 2.0, (False, False): 1.0, (False, True): 0.5}, (False, True)),
        ([], {(True, False): 1.0, (False, False): 2.0, (True, True): 1.5}, (True, False)),
        ([], {(True, False): 1.0, (False, False): 2.0}, (True, False)),
        (
            ["trainer.compile=reduce-overhead"],
            {(True, False): 1.0, (False, False): 2.0, (True, "reduce-overhead"): 0.5},
            (True, "reduce-overhead"),
        ),
    ],
)
def test_the_fastest_is_taken_and_the_faster_layout_alone_is_compiled(monkeypatch, overrides, times, expected):
    tried = []

    def time(config, device, channels_last, compiled):
        tried.append((channels_last, compiled))
        if tried[-1] not in times:
            raise RuntimeError("no compiler\nis there")
        return times[tried[-1]]

    monkeypatch.setattr(autotune, "_step_time", time)
    found = autotune.fastest_layout(compose(overrides), torch.device("cpu"))
    assert (found["channels_last"], found["compile"]) == expected
    assert len(tried) == 3 and found["milliseconds"] == {autotune._words(*key): 1000 * each for key, each in times.items()}
    assert found.get("not_compiled") == (None if len(times) == 3 else "no compiler")


def test_a_run_compiled_with_a_mode_is_read_again_and_not_repeated(train, monkeypatch):
    options = ("model=mlp", "norm=null", "model.depth=3", "logger=none", "trainer.autotune=true")
    mode = "max-autotune-no-cudagraphs"
    monkeypatch.setattr(autotune, "_step_time", lambda config, device, channels_last, compiled: 0.5 if compiled else 1.0)
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: None)
    folder = train(*options, f"trainer.compile={mode}")
    summary = read_run(folder).summary
    assert (summary["state"], summary["autotune"]["compile"]) == ("finished", mode)
    monkeypatch.delattr(autotune, "_step_time")  # a second measurement would need it
    assert train(*options, f"trainer.compile={mode}") == folder
    assert read_run(folder).summary == summary


def test_a_measured_run_has_the_weights_of_one_with_that_layout_and_keeps_its_choice(train, interrupt, monkeypatch, capsys):
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    def not_again(*_: object) -> None:
        raise AssertionError("measured a second time")

    monkeypatch.setattr(nn.Module, "compile", no_compiler)
    monkeypatch.setattr(autotune, "SECONDS", 0.0)
    monkeypatch.setattr(autotune, "LEAST", 1)
    interrupt(*OPTIONS, "trainer.autotune=true")
    assert "the fastest is taken of channels_last " in capsys.readouterr().out
    monkeypatch.setattr(execute, "fastest_layout", not_again)
    folder = train(*OPTIONS, "trainer.autotune=true")
    chosen = json.loads((folder / "summary.json").read_text())["autotune"]
    assert chosen["not_compiled"] == "no compiler" and not chosen["compile"] and len(chosen["milliseconds"]) == 2
    measured = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert measured["config"]["trainer"]["channels_last"] == chosen["channels_last"]
    layout = f"trainer.channels_last={str(chosen['channels_last']).lower()}"
    plain = torch.load(train(*OPTIONS, layout) / "checkpoints" / "last.pt", weights_only=True)
    assert all(torch.equal(measured["model"][key], plain["model"][key]) for key in plain["model"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs the compiler g++ here")
@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own insides
def test_a_compiled_network_is_timed_and_a_resumed_run_keeps_it(train, interrupt, monkeypatch, tmp_path):
    options = ("model=mlp", "norm=null", "model.depth=3", "model.width=8", "trainer.epochs=2")
    timed, compile_module, compiled = autotune._step_time, nn.Module.compile, []

    def compiling(module: nn.Module, **how: object) -> None:
        compiled.append(module)
        compile_module(module, **how)

    def in_favour(config, device, channels_last, compiled):
        return timed(config, device, channels_last, compiled) / (1000 if compiled else 1)

    monkeypatch.setattr(nn.Module, "compile", compiling)
    monkeypatch.setattr(autotune, "SECONDS", 0.0)
    with monkeypatch.context() as stopped:
        stopped.setattr(autotune, "_step_time", in_favour)
        interrupt(*options, "trainer.autotune=true")
    (folder,) = (tmp_path / "runs").glob("*/")
    chosen = json.loads((folder / "summary.json").read_text())["autotune"]
    assert chosen["compile"] is True and len(chosen["milliseconds"]) == 3 and "not_compiled" not in chosen
    assert train(*options, "trainer.autotune=true") == folder
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["state"], summary["autotune"]) == ("finished", chosen)
    assert len(compiled) == 3  # for the measurement, before the stop, and after it
    layout = f"trainer.channels_last={str(chosen['channels_last']).lower()}"
    found, plain = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (folder, train(*options, layout)))
    torch.testing.assert_close(found["model"], plain["model"], rtol=1e-3, atol=1e-5)
