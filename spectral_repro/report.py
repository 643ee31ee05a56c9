"""Tables, figures and pages from runs: python -m spectral_repro.report [paper=wang2019] [compare=[norm]] [key=value]"""

from contextlib import nullcontext

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.values import SWITCH
from spectral_repro.errors import UserError
from spectral_repro.workers import workers

KEYS = ("paper", "runs", "out", "results", "published", "status", "compare", "where", "metric", "baseline", "best_over")
OF_THE_STATUS = ("status", "runs")
OF_A_COMPARISON = ("where", "metric", "baseline", "best_over")


@command("report", texts=("where", "baseline"))
def main(config: DictConfig) -> None:
    keys = [override.partition("=")[0] for override in HydraConfig.get().overrides.task]
    for key in keys:
        if key not in KEYS:
            raise UserError(f"{key}: unknown key; the report takes {', '.join(KEYS)}")
    SWITCH.check("status", config.status)
    if config.status and (others := [key for key in keys if key not in OF_THE_STATUS]):
        raise UserError(f"status=true: takes only runs=; leave out {others[0]}=")
    if config.compare is not None and config.get("paper") is not None:
        raise UserError(f"paper={config.paper.name} compare={config.compare}: name one of them")
    if config.compare is None and (given := [key for key in OF_A_COMPARISON if config[key] is not None]):
        raise UserError(f"{given[0]}={config[given[0]]}: belongs to a comparison; add compare=auto, or compare=[norm]")
    with nullcontext(map) if config.status else workers("spectral_repro.reporting.commands") as mapper:
        from spectral_repro.reporting.commands import report  # pandas and matplotlib, which neither help nor an error needs

        report(config, mapper)


if __name__ == "__main__":
    main()
