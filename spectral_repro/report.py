"""Tables, figures and a page of a paper: python -m spectral_repro.report paper=wang2019 [runs=...] [out=...]"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.runs import read_runs
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.write import write


@command("report")
def main(config: DictConfig) -> None:
    paper = load_paper(config.paper)
    runs, notices = read_runs(Path(config.runs), made_by=paper.command)
    report = gather(paper, runs)
    for notice in notices:
        print(notice, file=sys.stderr)
    for text in write(report, Path(config.out)):
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
