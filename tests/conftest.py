"""Commands as a user runs them, on one thread."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


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
