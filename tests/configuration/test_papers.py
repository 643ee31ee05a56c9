"""The sweep of a paper runs every row of its tables with every seed, and nothing else."""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import CONF, compose, options
from spectral_repro.configuration.identity import digest, identity

PAPERS = options("paper")


@pytest.mark.parametrize("paper", PAPERS)
def test_sweep_fills_the_tables(paper: str):
    parameters = OmegaConf.load(CONF / "paper" / f"{paper}.yaml").hydra.sweeper.params
    swept_key, swept = next((key, values.split(",")) for key, values in parameters.items() if key != "seed")
    jobs = {digest(identity(compose([f"paper={paper}", f"{swept_key}={value}"]))) for value in swept}
    tables = compose([f"paper={paper}"]).paper.tables.values()
    rows = {digest(identity(compose([f"paper={paper}", *row.overrides]))) for table in tables for row in table.rows}
    assert jobs == rows
    assert len(jobs) == len(swept), "a row is swept twice"
    assert len(str(parameters.seed).split(",")) >= 2


def test_every_experiment_is_a_row():
    paper = compose(["paper=wang2019"]).paper
    named = {override for table in paper.tables.values() for row in table.rows for override in row.overrides}
    experiments = {f"experiment={name}" for name in options("experiment") if name.startswith("wang2019/")}
    assert named == experiments


def test_multirun_launches_the_sweep(tmp_path):
    """As a user runs it, at the smallest scale; the second time nothing is left to do."""
    command = [sys.executable, "-m", "spectral_repro.train", "-m", "paper=quickstart", "scale=smoke", "trainer.threads=1"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "Launching 8 jobs" in first.stdout
    assert len(list(tmp_path.glob("results/runs/*/summary.json"))) == 8
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.stdout.count("finished already") == 8
