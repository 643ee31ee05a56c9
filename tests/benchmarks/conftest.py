"""Benchmark suites at their smallest scale, in this process."""

import hydra
import pytest
import torch
from hydra.utils import instantiate

from spectral_repro.configuration.folders import CONF


@pytest.fixture(scope="session")
def suite():
    """Builds the suite of a name at scale=smoke."""

    def build(name: str):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose("bench", [f"suite={name}", "scale=smoke"]).suite
        return instantiate(config.measure, **config.scales.smoke, device=torch.device("cpu"), seed=0, _convert_="all")

    return build
