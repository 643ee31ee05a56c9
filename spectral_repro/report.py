"""Tables, figures and a page of a paper: python -m spectral_repro.report paper=wang2019 [runs=...] [out=...]; status=true: what
runs there are and how far they are."""

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.errors import UserError
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.runs import read_runs
from spectral_repro.reporting.sections import gather

KEYS = ("paper", "runs", "out", "status")


@command("report")
def main(config: DictConfig) -> None:
    for override in HydraConfig.get().overrides.task:
        if override.partition("=")[0] not in KEYS:
            raise UserError(f"{override}: the report takes {', '.join(KEYS)} alone")
    if config.status:
        from spectral_repro.reporting.status import status

        print(status(Path(str(config.runs))))
        return
    paper = load_paper(config.get("paper"))
    runs, notices = read_runs(Path(str(config.runs)), made_by=paper.command)
    report = gather(paper, runs)
    from spectral_repro.reporting.write import write

    for line in (*notices, *report.remarks):
        print(line, file=sys.stderr)
    for text in write(report, Path(str(config.out))):
        print(text)


if __name__ == "__main__":
    main()
