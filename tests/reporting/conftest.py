"""Run folders as the trainer leaves them, with real configurations and invented results."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import digest, identity
from spectral_repro.reporting.papers import Paper, load_paper
from spectral_repro.reporting.runs import Run, read_runs
from spectral_repro.reporting.sections import Report, gather

DIGITS = """
name: quickstart
title: Norm layers & digits
source: Someone, 2019
compare: [norm]
metric: test_accuracy
tables:
  small:
    title: Digits_1
    rows:
      - {label: Batch norm, overrides: [norm=batch], published: {mean: 90.0, std: 0.5, best: 91.0, success_rate: null}}
      - {label: "ZCA, SVD", overrides: [norm=zca_svd], published: {mean: null, std: null, best: null, success_rate: 0.0}}
      - {label: "ZCA, SVD-PI", overrides: [norm=zca_pi]}
"""

SIZES = """
name: quickstart
title: Group sizes
source: Someone, 2019
compare: [norm]
metric: test_accuracy
tables:
  sizes:
    title: Two gradients
    axis: {label: Group size d, log: true}
    rows:
      - {label: Batch norm, overrides: [norm=batch], published: {mean: 90.0, std: 0.5}}
      - label: "SVD, d = 4"
        overrides: [norm=zca_svd, norm.group_size=4]
        series: SVD
        at: 4
        published: {mean: 92.0, success_rate: 40.0}
      - {label: "SVD, d = 8", overrides: [norm=zca_svd, norm.group_size=8], series: SVD, at: 8, published: {success_rate: 0.0}}
      - {label: "PI, d = 4", overrides: [norm=zca_pi, norm.group_size=4], series: PI, at: 4, published: {mean: 91.0, std: 0.25}}
      - {label: "PI, d = 8", overrides: [norm=zca_pi, norm.group_size=8], series: PI, at: 8}
  times:
    title: Time of a step
    metric: step_time
    rows:
      - {label: Batch norm, overrides: [norm=batch], published: {mean: 80.0}}
      - {label: "PI, d = 4", overrides: [norm=zca_pi, norm.group_size=4]}
"""


MEDIANS = """
name: quickstart
title: Medians
source: Someone, 2019
compare: [norm]
metric: test_accuracy
tables:
  medians:
    title: Two layers
    rows:
      - {label: Batch norm, overrides: [norm=batch], published: {median: 90.0}}
      - {label: "ZCA, SVD-PI", overrides: [norm=zca_pi], published: {median: 93.5}}
      - {label: "ZCA, SVD", overrides: [norm=zca_svd]}
"""


@functools.cache
def configuration(overrides: tuple[str, ...]) -> DictConfig:
    return compose(overrides)


@pytest.fixture(scope="session")
def paper() -> Paper:
    """Three rows on digits, two of them with published values."""
    return load_paper(OmegaConf.create(DIGITS))


@pytest.fixture(scope="session")
def sizes_paper() -> Paper:
    """A table with an axis and two series on it, and one of times."""
    return load_paper(OmegaConf.create(SIZES))


@pytest.fixture(scope="session")
def medians_paper() -> Paper:
    """A table of published medians."""
    return load_paper(OmegaConf.create(MEDIANS))


@pytest.fixture
def runs_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Writes the folder of one run, by default a finished one of the papers' protocol; `columns` joins metrics.csv."""

    def write(
        root: Path,
        *overrides: str,
        accuracies: Sequence[float] = (50.0, 80.0),
        losses: Sequence[float] | None = None,
        state: str = "finished",
        seed: int = 0,
        name: str = "run",
        columns: Mapping[str, Sequence[float]] = MappingProxyType({}),
        **summary: object,
    ) -> Path:
        config = configuration(overrides).copy()
        config.seed = seed
        config.precision = config.precision.replace("auto", "bfloat16")  # no run says auto
        id = digest(identity(config))
        folder = root / f"{name}-{id}"
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(config, folder / ".hydra" / "config.yaml", resolve=True)
        losses = losses or [1 / epoch for epoch in range(1, len(accuracies) + 1)]
        curves = {
            "train_loss": losses,
            "train_accuracy": [accuracy + 1 for accuracy in accuracies],
            "test_loss": [loss + 0.1 for loss in losses],
            "test_accuracy": accuracies,
        }
        if accuracies:
            epochs = pd.RangeIndex(1, len(accuracies) + 1, name="epoch")
            pd.DataFrame(curves | columns, index=epochs).to_csv(folder / "metrics.csv")
        written = {"name": name, "id": id, "state": state, "wall_time_s": 75.4, "images_per_second": 1000.4, "threads": 2}
        written |= {"device": "2 x Some CPU", "versions": {"python": "3.11.9", "torch": "2.14.1"}}
        (folder / "summary.json").write_text(json.dumps(written | summary))
        return folder

    return write


@pytest.fixture
def evaluate() -> Callable[..., None]:
    """Writes evaluation.json into a run: a calibration error, and the accuracy under an attack."""

    def write(folder: Path, ece: float, robust: float | None = None, checkpoint: str = "last.pt", images: int = 8) -> None:
        settings = {"settings": {"checkpoint": checkpoint}, "environment": {"best_by": "validation_accuracy"}}
        entries = {"calibration": {"conditions": "15 bins", "ece": ece, "brier": 2 * ece} | settings}
        if robust is not None:
            entries["autoattack"] = {"conditions": f"L2 0.5, {images} images", "robust_accuracy": robust} | settings
        (folder / "evaluation.json").write_text(json.dumps(entries))

    return write


@pytest.fixture
def make_run(write_run: Callable[..., Path], runs_folder: Path) -> Callable[..., Path]:
    return functools.partial(write_run, runs_folder)


@pytest.fixture
def read(runs_folder: Path) -> Callable[[], list[Run]]:
    def run() -> list[Run]:
        runs, notices = read_runs(runs_folder, made_by="nobody")
        assert notices == []
        return runs

    return run


@pytest.fixture
def report(paper: Paper, read: Callable[[], list[Run]]) -> Callable[[], Report]:
    """The report of whatever runs there are."""
    return lambda: gather(paper, read())
