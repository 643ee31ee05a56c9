"""python -m spectral_repro.train: one run, or with -m many."""

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError


@command("train")
def main(config: DictConfig) -> None:
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    parts = (choices.model, choices.norm, choices.conv, choices.dataset)
    name = choices.experiment or choices.study or "_".join(filter(None, parts))
    try:
        check(config)
        from spectral_repro.training.execute import execute

        job = hydra.job.num if hydra.mode == RunMode.MULTIRUN else 0
        execute(config, name.replace("/", "_"), list(hydra.overrides.task), job)
    except UserError as error:
        if hydra.mode == RunMode.MULTIRUN:  # where Hydra speaks at the end of the sweep, and of its first failure alone
            print(f"job {hydra.job.num} failed: {error}", file=sys.stderr, flush=True)
        raise


if __name__ == "__main__":
    main()
