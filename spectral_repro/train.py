"""python -m spectral_repro.train: one run, or with -m many."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.rules import check


@command("train")
def main(config: DictConfig) -> None:
    check(config)
    from spectral_repro.training.execute import execute

    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    name = choices.experiment or f"{choices.model}_{choices.norm}_{choices.dataset}"
    execute(config, name.replace("/", "_"), list(hydra.overrides.task))


if __name__ == "__main__":
    main()
