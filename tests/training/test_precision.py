"""precision=auto on different processors."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import digest, identity
from spectral_repro.evaluation.trained import restore
from spectral_repro.training import environment, execute

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """Puts a line of /proc/cpuinfo in the place of the real ones."""
    return lambda line: monkeypatch.setattr(
        environment, "_text", lambda path: f"processor : 0\n{line}\n\nprocessor : 1\n{line}\n"
    )


@pytest.mark.parametrize(
    ("line", "precision"),
    [
        ("flags\t\t: fpu avx2 avx512f", "float32"),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile", "bfloat16"),
        ("Features\t: fp asimd bf16", "bfloat16"),
        ("Features\t: fp asimd", "float32"),
        ("", "float32"),
    ],
)
def test_bfloat16_where_the_processor_has_instructions_for_it(processor, line, precision):
    processor(line)
    assert environment.fastest_precision(CPU) == precision


@pytest.mark.parametrize("fast", [True, False])
def test_a_gpu_is_asked_itself(monkeypatch, fast):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast and not including_emulation)
    assert environment.fastest_precision(torch.device("cuda")) == ("bfloat16" if fast else "float32")


def test_a_run_says_its_precision_and_keeps_it_on_another_processor(train, processor):
    processor("flags: avx2")
    folder = train("precision=auto", "trainer.epochs=1")
    written = OmegaConf.load(folder / ".hydra" / "config.yaml")
    assert written.precision == "float32" and folder.name.endswith(digest(identity(written)))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"state": "interrupted"}))
    processor("flags: avx512_bf16")
    assert train("precision=auto", "trainer.epochs=1") == folder
    assert json.loads((folder / "summary.json").read_text())["state"] == "finished"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_all_runs_of_a_sweep_share_one(call, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "fastest_precision", lambda device: "bfloat16")  # where the sweep is started
    monkeypatch.setattr(execute, "fastest_precision", lambda device: "float32")  # where the jobs run
    result = call(
        "train", "-m", "precision=auto", "seed=0,1", "scale=smoke", "trainer.epochs=1", "trainer.threads=1", "logger=none"
    )
    assert result.returncode == 0, result.stderr
    configs = [OmegaConf.load(path) for path in (tmp_path / "results" / "runs").glob("*/.hydra/config.yaml")]
    assert [config.precision for config in configs] == ["bfloat16", "bfloat16"]


def test_a_precision_of_a_swept_option_is_resolved_too(call, processor, tmp_path):
    """The two values of trainer.epochs give two rows; a run that the table did not find would be shown as interrupted."""
    processor("flags: avx512_bf16")
    shared = ("experiment=quickstart/batch", "scale=smoke", "trainer.threads=1", "logger=none")
    result = call("train", "-m", *shared, "trainer.epochs=1,2", "precision=auto,float32")
    assert result.returncode == 0, result.stderr
    configs = [OmegaConf.load(path) for path in (tmp_path / "results" / "runs").glob("*/.hydra/config.yaml")]
    assert sorted(config.precision for config in configs) == ["bfloat16"] * 2 + ["float32"] * 2
    assert "interrupted" not in result.stdout and "no finished run" not in result.stdout


def test_a_checkpoint_with_an_unsettled_configuration_can_be_evaluated(train, processor, tmp_path):
    weights = torch.load(train("trainer.epochs=1") / "checkpoints" / "last.pt", weights_only=True)["model"]
    config = OmegaConf.to_container(compose(["scale=smoke", "precision=auto"]), resolve=True)
    torch.save({"model": weights, "config": config}, tmp_path / "own.pt")
    processor("flags: avx512_bf16")
    trained = restore(tmp_path / "own.pt", CPU)
    assert trained.config.precision == "bfloat16" and trained.predictions[0].isfinite().all()
