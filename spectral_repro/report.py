"""Tables, figures and pages from runs: python -m spectral_repro.report [paper=wang2019] [compare=[norm]] [key=value]"""

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.tables import read_paper
from spectral_repro.errors import UserError
from spectral_repro.reporting.comparison import REPORT, compare, select
from spectral_repro.reporting.load import read_places
from spectral_repro.reporting.page import Speeds
from spectral_repro.reporting.papers import TRAIN, Paper, load_paper, published, supply
from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.runs import Damage
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.verdicts import judge

KEYS = ("paper", "runs", "out", "results", "published", "status", "compare", "where", "metric", "baseline", "best_over")
QUOTES = ("'", '"')
OF_A_COMPARISON = ("where", "metric", "baseline", "best_over")


@command("report", texts=("where", "baseline"))
def main(config: DictConfig) -> None:
    for override in HydraConfig.get().overrides.task:
        if override.partition("=")[0] not in KEYS:
            raise UserError(f"{override}: the report takes {', '.join(KEYS)} alone")
    if config.status:
        notices = _status(config)
    elif config.compare is not None:
        notices = _comparison(config)
    elif given := [key for key in OF_A_COMPARISON if config[key] is not None]:
        raise UserError(f"{given[0]}={config[given[0]]}: belongs to a comparison; add compare=auto, or compare=[norm]")
    elif config.get("paper") is None:
        notices = _site(config)
    else:
        notices = _paper(config)
    if damaged := sum(isinstance(notice, Damage) for notice in notices):
        raise UserError(f"{counted(damaged, 'place')} left out because of damage, see above; the rest is reported")


def _status(config: DictConfig) -> list[str]:
    from spectral_repro.reporting.status import status

    found = []
    for place in _places(config):
        if not place.endswith(".csv"):
            text, notices = status(Path(place))
            _print_lines(notices)
            print(text)
            found += notices
    return found


def _site(config: DictConfig) -> list[str]:
    runs, notices = read_places(_places(config), made_by=f"{' '.join(TRAIN)} -m paper=...")
    from spectral_repro.reporting.site import write_site

    _print_lines(notices)
    papers = [_with_own_values(load_paper(read_paper(name)), config) for name in published()]
    for line in write_site(papers, runs, notices, _out(config, "site"), Path(str(config.results))):
        print(line)
    return notices


def _paper(config: DictConfig) -> list[str]:
    paper = _with_own_values(load_paper(read_paper(config.paper.name)), config)
    runs, notices = read_places(_places(config), made_by=paper.command)
    report = gather(paper, runs)
    from spectral_repro.reporting.site import write

    _print_lines([*notices, *report.remarks])
    for text in write(report, _out(config, paper.name), judge(report, Path(str(config.results))), Speeds(runs)):
        print(text)
    return notices


def _comparison(config: DictConfig) -> list[str]:
    if config.get("paper") is not None:
        raise UserError(f"paper={config.paper.name} compare={config.compare}: name one of them")
    runs, notices = read_places(_places(config), made_by=f"{' '.join(TRAIN)} -m ...")
    _print_lines(notices)
    keys = [] if config.compare in ("auto", "") else listed(config.compare)
    runs = select(runs, listed(config.where))
    if not runs:
        raise UserError(f"runs={','.join(_places(config))}: no run is there; runs are made by {' '.join(TRAIN)} -m ...")
    made_by = shlex.join([*REPORT, *map(_as_typed, HydraConfig.get().overrides.task)])
    report = compare(runs, keys, config.metric, config.baseline, made_by, listed(config.best_over))
    from spectral_repro.reporting.site import write

    _print_lines(report.remarks)
    for text in write(report, _out(config, "comparison")):
        print(text)
    return notices


def listed(value: object) -> list[str]:
    """The texts of a list, or of a text such as [a=1,b=2] or a=1."""
    if value is None:
        return []
    if isinstance(value, ListConfig):
        return [str(each) for each in value]
    return [part.strip() for part in str(value).removeprefix("[").removesuffix("]").split(",") if part.strip()]


def _as_typed(override: str) -> str:
    """An override without the quotation marks that Hydra needs."""
    key, _, value = override.partition("=")
    return f"{key}={value[1:-1] if value[:1] in QUOTES and value[:1] == value[-1:] and len(value) > 1 else value}"


def _out(config: DictConfig, name: str) -> Path:
    return Path("results", name) if config.out is None else Path(str(config.out))


def _with_own_values(paper: Paper, config: DictConfig) -> Paper:
    return supply(paper, Path(str(config.published))) if config.published else paper


def _places(config: DictConfig) -> list[str]:
    return [str(place) for place in (config.runs if isinstance(config.runs, ListConfig) else [config.runs])]


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
