"""python -m spectral_repro.evaluate as a user runs it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.training.execute import execute


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; to be copied, not changed."""
    results = tmp_path_factory.mktemp("runs")
    overrides = ["model=alexnet_small", "scale=smoke", "trainer.threads=1", "trainer.epochs=1", "logger=none"]
    execute(compose([*overrides, f"results_dir={results}"]), "small", overrides)
    (folder,) = results.iterdir()
    return folder


@pytest.fixture
def runs(tmp_path: Path, finished: Path) -> Path:
    """A folder with a finished run, an interrupted one, a diverged one, a study and a checkpoint of one's own."""
    whole = shutil.copytree(finished, tmp_path / "runs" / "whole")
    for state in ("interrupted", "diverged"):
        copy = shutil.copytree(whole, whole.with_name(state))
        (copy / "summary.json").write_text(json.dumps({"state": state}))
    (study := whole.with_name("study") / ".hydra").mkdir(parents=True)
    (study / "config.yaml").write_text("study: {depth: 3}")
    (study.parent / "summary.json").write_text(json.dumps({"state": "finished"}))
    content = torch.load(whole / "checkpoints" / "best.pt", weights_only=True)
    torch.save({"model": content["model"], "config": content["config"]}, whole.with_name("mine.pt"))
    whole.with_name("__MACOSX").mkdir()
    whole.with_name("._mine.pt").touch()
    return whole.parent


@pytest.fixture
def evaluate(call) -> Callable[..., tuple[int, str, str]]:
    """Runs the command within this process; returns its exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        result = call("evaluate", *arguments)
        return result.returncode, result.stdout, result.stderr

    return run


def test_a_folder_of_runs_and_checkpoints(command, runs):
    result = command("evaluate", "runs=runs", "metrics=[accuracy,calibration,certificates]")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    missing = "certificates: no Lipschitz constant of AlexNet is known"
    assert [line.partition(";")[0] for line in result.stderr.splitlines()[:3]] == [
        "runs/interrupted: its state is interrupted. Only finished runs can be evaluated",
        f"runs/mine.pt: {missing}",
        f"runs/whole: {missing}",
    ]
    assert "3 failed, see above" in result.stderr
    assert "runs/diverged: diverged, nothing to evaluate" in result.stdout
    assert "runs/study: a study, nothing to evaluate" in result.stdout
    assert "runs/whole: calibration, 15 bins, 32 images: ece 0." in result.stdout
    assert not list((runs / "interrupted").glob("evaluation.*"))

    own = json.loads((runs / "mine.evaluation.json").read_text())
    whole = json.loads((runs / "whole" / "evaluation.json").read_text())
    assert list(own) == list(whole) == ["accuracy", "calibration"]
    assert own["accuracy"]["accuracy"] == whole["accuracy"]["accuracy"] and own["accuracy"]["images"] == 32
    assert own["accuracy"]["settings"]["checkpoint"] == "mine.pt" and whole["accuracy"]["settings"]["checkpoint"] == "last.pt"
    assert own["accuracy"]["environment"]["best_by"] == whole["accuracy"]["environment"]["best_by"] == "test_accuracy"
    assert own["accuracy"]["environment"]["versions"]["torch"] == torch.__version__.split("+")[0]
    for picture in (runs / "mine.evaluation.png", runs / "whole" / "evaluation.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_study_has_nothing_to_evaluate(evaluate, runs):
    for name in ("whole", "interrupted", "diverged", "__MACOSX"):
        shutil.rmtree(runs / name)
    (runs / "mine.pt").unlink()
    code, printed, errors = evaluate("runs=runs")
    assert (code, printed, errors) == (0, "runs/study: a study, nothing to evaluate\n", "")
    code, _, errors = evaluate("run=runs/study")
    assert code == 1 and "runs/study: a study, which has no trained network" in errors.splitlines()


def test_measurements_are_kept(evaluate, runs):
    assert evaluate("run=runs/whole", "metrics=accuracy")[0] == 0
    file = runs / "whole" / "evaluation.json"
    before = json.loads(file.read_text())
    assert not (runs / "whole" / "evaluation.png").exists(), "accuracy has no panel"

    _, printed, _ = evaluate("run=runs/whole", "batch_size=5")
    assert "runs/whole: accuracy measured already; force=true measures it again" in printed
    after = json.loads(file.read_text())
    assert list(after) == ["accuracy", "calibration"] and after["accuracy"] == before["accuracy"]

    other = ("run=runs/whole", "metrics=calibration", "calibration.bins=10", "checkpoint=best")
    code, _, errors = evaluate(*other)
    assert code == 1 and json.loads(file.read_text()) == after
    assert "runs/whole: calibration: measured with another checkpoint, bins; force=true replaces it" in errors.splitlines()
    _, printed, _ = evaluate(*other, "force=true")
    assert "calibration, 10 bins" in printed
    _, printed, _ = evaluate("run=runs/whole", "metrics=accuracy", "force=true")
    assert "measured already" not in printed and "accuracy, 32 images" in printed
    last = json.loads(file.read_text())
    assert last["accuracy"]["accuracy"] == before["accuracy"]["accuracy"]
    settings = last["calibration"]["settings"]
    assert (settings["bins"], settings["checkpoint"]) == (10, "best.pt") and len(settings["sha256"]) == 64


def test_averaged_weights_are_measured_separately(evaluate, runs):
    code, _, errors = evaluate("run=runs/whole", "metrics=accuracy", "weights=ema")
    assert code == 1 and "runs/whole/checkpoints/last.pt: has no average of the weights" in errors
    change_checkpoint(runs / "whole" / "checkpoints" / "last.pt", lambda content: content.update(ema=content["model"]))
    for weights in ("model", "ema", "model"):
        code, printed, _ = evaluate("run=runs/whole", "metrics=accuracy", f"weights={weights}", "force=true")
        assert code == 0 and "accuracy, 32 images" in printed
        settings = json.loads((runs / "whole" / "evaluation.json").read_text())["accuracy"]["settings"]
        assert settings.get("weights", "model") == weights


def test_a_record_that_cannot_be_written_is_named(evaluate, runs):
    (runs / "whole" / "evaluation.png").mkdir()
    code, _, errors = evaluate("run=runs/whole")
    assert code == 1 and "runs/whole/evaluation.png: cannot be written (Is a directory)" in errors.splitlines()


def test_a_damaged_record_is_named(evaluate, runs):
    (runs / "whole" / "evaluation.json").write_text("{")
    code, _, errors = evaluate("run=runs/whole")
    assert code == 1 and re.search(
        r"^runs/whole/evaluation\.json: damaged \(.*\); move it away to evaluate again$", errors, re.M
    )


OWN = """
from dataclasses import dataclass

import numpy as np

from spectral_repro.evaluation import Measurement


@dataclass(frozen=True)
class Given(Measurement):
    found: str

    def __call__(self, trained):
        return {
            "whole": {"conditions": "all", "images": 2, "value": 0.5},
            "lacking": {"images": 2, "value": 0.5},
            "float32": {"conditions": "all", "images": 2, "value": np.float32(0.5)},
            "none": None,
        }[self.found]
"""


def test_a_measurement_of_ones_own_that_cannot_be_stored_damages_nothing(evaluate, runs, monkeypatch):
    (runs.parent / "own.py").write_text(OWN)
    (runs.parent / "conf" / "metrics").mkdir(parents=True)
    names = ("lacking", "float32", "none", "whole")
    for name in names:
        option = f"# @package {name}\n_target_: own.Given\nfound: {name}\n"
        (runs.parent / "conf" / "metrics" / f"{name}.yaml").write_text(option)
    monkeypatch.syspath_prepend(runs.parent)
    monkeypatch.setenv("SPECTRAL_REPRO_TARGETS", "own")
    code, printed, errors = evaluate("--config-dir", "conf", "run=runs/whole", f"metrics=[accuracy,{','.join(names)}]")
    assert code == 1 and "Traceback" not in errors
    lines = errors.splitlines()
    assert "runs/whole: lacking: the result cannot be stored (lacking has no conditions)" in lines
    assert "runs/whole: float32: the result cannot be stored (Object of type float32 is not JSON serializable)" in lines
    assert any(line.startswith("runs/whole: none: TypeError: unsupported operand") for line in lines)
    assert "runs/whole: whole, all: value 0.5" in printed
    assert list(json.loads((runs / "whole" / "evaluation.json").read_text())) == ["accuracy", "whole"]
    assert evaluate("run=runs/whole", "metrics=accuracy")[0] == 0


def change_checkpoint(path: Path, change: Callable[[dict], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def infinite_bias(content: dict) -> None:
    content["model"][max(name for name in content["model"] if name.endswith("bias"))][0] = float("inf")


def test_a_damaged_run_does_not_stop_the_others(evaluate, runs):
    whole, mine = runs / "whole", runs / "mine.pt"
    shutil.rmtree(runs / "interrupted")
    damages = {
        "no_trainer": lambda content: content["config"].pop("trainer"),
        "no_layer": lambda content: content["config"]["model"].pop("_target_"),
        "odd_config": lambda content: content["config"]["dataset"].update(load="x"),
        "no_weights": lambda content: content.update(model=None),
        "odd_weights": lambda content: content["model"].update(more="x"),
        "zz_infinite": infinite_bias,
    }
    for name, damage in damages.items():
        shutil.copy(mine, runs / f"{name}.pt")
        change_checkpoint(runs / f"{name}.pt", damage)
    record = shutil.copytree(whole, runs / "record") / "evaluation.json"
    record.write_text('{"calibration": {"ece": 0.1, "settings": {"checkpoint": "last.pt"}}}')
    code, printed, errors = evaluate("runs=runs", "metrics=[accuracy,calibration]")
    lines = errors.splitlines()
    assert code == 1 and "Traceback" not in errors and "6 failed, see above" in lines
    for name in [f"{name}.pt" for name in damages if name != "zz_infinite"] + ["record"]:
        assert sum(line.startswith(f"runs/{name}") for line in lines) == 1, "\n".join(lines)
    assert "runs/no_trainer.pt: has no trainer under config, the configuration of its training" in lines
    assert "runs/no_layer.pt: has no model._target_ under config, the configuration of its training" in lines
    assert "runs/odd_config.pt: dataset.load: names no class or function under _target_" in lines
    assert (
        f"{record.relative_to(runs.parent)}: damaged (calibration has no conditions); move it away to evaluate again" in lines
    )
    for name in ("mine.pt", "whole", "zz_infinite.pt"):
        assert f"runs/{name}: calibration, 15 bins" in printed
    found = json.loads((runs / "zz_infinite.evaluation.json").read_text(), parse_constant=pytest.fail)
    assert found["calibration"]["nll"] is None and found["accuracy"]["accuracy"] >= 0
    assert (runs / "zz_infinite.evaluation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one of run=FOLDER (of a run), runs=FOLDER (of many) and checkpoint=FILE"),
        (["run=a", "checkpoint=mine.pt"], "name one of run=FOLDER"),
        (["run=nowhere"], "nowhere: no such file or folder; runs are made by python -m spectral_repro.train"),
        (["runs=nowhere"], "runs=nowhere: no such folder; runs are made by python -m spectral_repro.train"),
        (["runs=now*"], "runs=now*: no such folder; runs are made by python -m spectral_repro.train"),
        (["runs=empty"], "runs=empty: holds neither the folder of a run nor a checkpoint (*.pt)"),
        (["run=empty"], "empty: not the folder of a run, it has no summary.json that names a state"),
        (["run=a", "metrics=[]"], "metrics: choose from accuracy, autoattack, calibration, certificates, corruptions"),
        (["run=a", "metrics=accurracy"], "In 'evaluate': Could not find 'metrics/accurracy'"),
        (["run=${x}"], "run: Interpolation key 'x' not found"),
        (["run=a", "calibration.bins=1000000"], "calibration.bins=1000000: must be a whole number >= 1 and <= 1000"),
        (["run=a", "~device"], "device: is missing; keep it, or set it to null"),
        (["run=a", "+extra=1"], "extra: no such key; there are run, runs, "),
        (["run=a", "metrics=corruptions", "corruptions.severities=[6]"], "corruptions.severities=[6]: must be a list, each"),
        (["run=a", "metrics=corruptions", "corruptions.names=[rain]"], "corruptions.names=rain: must be among gaussian_noise"),
    ],
)
def test_errors_in_one_line(evaluate, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    code, printed, errors = evaluate(*arguments)
    assert code == 1 and any(line.startswith(message) for line in errors.splitlines()), errors
    assert "Traceback" not in errors and not printed
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
