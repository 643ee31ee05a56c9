"""Commands as a user runs them, and runs within the process, on one thread."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from spectral_repro.configuration.compose import compose
from spectral_repro.training.execute import execute

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the report remembers between calls is forgotten after the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs `python -m spectral_repro.<name> ...` in an empty folder; returns its exit status and output."""

    def run(name: str, *arguments: str, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:spectral_repro", "-m", f"spectral_repro.{name}", *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """The configuration of overrides, composed once for all tests: a copy."""
    once = functools.cache(lambda *overrides: compose(overrides))
    return lambda *overrides: once(*overrides).copy()


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Trains at the smallest scale within this process; returns the folder of the run."""

    def run(*overrides: str) -> Path:
        results = tmp_path / "runs"
        config = compose(["scale=smoke", "trainer.threads=1", f"results_dir={results}", *overrides])
        execute(config, "test", list(overrides))
        return max(results.glob("*/"), key=lambda folder: (folder / "summary.json").stat().st_mtime_ns)

    return run
