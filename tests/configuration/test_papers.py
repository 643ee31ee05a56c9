"""The sweep of a paper runs every row of its tables with every seed, and nothing else."""

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from spectral_repro.configuration.folders import CONF, files
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.tables import read_paper

PAPERS = options("paper")


def swept(paper: str) -> dict[str, list[str]]:
    """The values of every key that the paper's file sweeps over, as Hydra reads them."""
    parameters = OmegaConf.load(CONF / "paper" / f"{paper}.yaml").hydra.sweeper.params
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides([f"{key}={value}" for key, value in parameters.items()])
        return {override.key_or_group: list(override.sweep_string_iterator()) for override in overrides}


@pytest.mark.parametrize("paper", PAPERS)
def test_sweep_fills_the_tables(paper: str):
    sweep = swept(paper)
    tables = read_paper(paper)["tables"]
    assert sorted(tables) == files(CONF, f"table/{paper}")
    rows = {override for table in tables.values() for row in table["rows"] for override in row["overrides"]}
    experiments = [name for name in options("experiment") if name.startswith(f"{paper}/")]
    assert sweep.keys() == {"experiment", "seed"}
    assert sorted(sweep["experiment"]) == experiments
    assert rows == {f"experiment={name}" for name in experiments}
    assert len(sweep["seed"]) == len(set(sweep["seed"])) >= 2


SWEEP = ("train", "-m", "scale=smoke", "trainer.threads=1", "paper=quickstart")


def test_multirun_launches_the_sweep(call, tmp_path):
    """At the smallest scale; the second time nothing is left to do."""
    first = call(*SWEEP, "seed=0")
    assert first.returncode == 0, first.stderr
    assert "Launching 4 jobs" in first.stdout
    assert len(list(tmp_path.glob("results/runs/*/summary.json"))) == 4
    assert call(*SWEEP, "seed=0").stdout.count("finished already") == 4


def test_an_empty_sweep_is_an_error(call):
    result = call(*SWEEP, "experiment=glob(quickstart/none*)")
    assert result.returncode == 1
    assert result.stderr == "experiment=glob(quickstart/none*): no experiment matches, so there is nothing to run\n"
    assert "Launching" not in result.stdout
