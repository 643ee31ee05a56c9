"""Small networks of the digits and of images of 32 x 32 pixels, trained for a moment."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.evaluation.trained import Trained, restore
from spectral_repro.training.execute import execute

SMALL = ("model=alexnet_small", "scale=smoke", "trainer.threads=1", "trainer.epochs=1", "logger=none")


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the digits; to be copied, not changed."""
    learnt = ("dataset.train_images=640", "dataset.test_images=50", "trainer.epochs=3")
    return trained_run(tmp_path_factory.mktemp("digits"), *learnt)


@pytest.fixture(scope="session")
def noise_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on noise of 32 x 32 pixels in colour."""
    return trained_run(tmp_path_factory.mktemp("noise"), "dataset=random", "dataset.test_images=6")


def trained_run(results: Path, *overrides: str) -> Path:
    config = compose([*SMALL, f"results_dir={results}", *overrides])
    execute(config, "small", list(overrides))
    (folder,) = results.glob("small-*")
    return folder


@pytest.fixture(scope="session")
def restored() -> Callable[..., Trained]:
    return lambda folder, **options: restore(folder / "checkpoints" / "last.pt", torch.device("cpu"), **options)
