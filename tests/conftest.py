"""Fixtures that run commands as a user does, and that train within this process, on one thread."""

import contextlib
import functools
import importlib
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from omegaconf import DictConfig

from spectral_repro.configuration.compose import compose
from spectral_repro.training.execute import execute
from spectral_repro.training.faults import StopRequest

# hypothesis draws the same examples in every run, and does not look at the clock
settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("deterministic")

torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))


def seed_generators() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seeds the random generators before every test."""
    seed_generators()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    """Seeds the random generators before every fixture that several tests share."""
    if fixturedef.scope != "function":
        seed_generators()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache folder of the report for these tests only."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs `python -m spectral_repro.<name> ...` in an empty folder, with variables of the environment; returns its exit status
    and output.
    """

    def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:spectral_repro", "-m", f"spectral_repro.{name}", *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def call_in() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a command in a folder as `command` does, but within this process, where torch is imported already."""

    def run(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
        main = importlib.import_module(f"spectral_repro.{name}").main
        output, errors, status = io.StringIO(), io.StringIO(), 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, "argv", [name, *arguments])
            for manager in (contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)):
                stack.enter_context(manager)
            try:
                main()
            except SystemExit as leaving:
                status = leaving.code
        return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture
def call(call_in, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`call_in` an empty folder."""
    return functools.partial(call_in, tmp_path)


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """Composes the configuration of overrides once for all tests, and returns a copy."""
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


@pytest.fixture
def interrupt(train: Callable[..., Path]) -> Callable[..., None]:
    """Trains as `train` does, with a request to stop that comes before the first step is over."""

    def run(*overrides: str) -> None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(StopRequest, "asked", True, raising=False)
            patch.setattr(StopRequest, "__init__", lambda self: None)
            train(*overrides)

    return run
