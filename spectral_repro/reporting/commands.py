"""The work of the command report."""

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig

from spectral_repro.configuration.tables import read_paper
from spectral_repro.errors import UserError
from spectral_repro.reporting.comparison import REPORT, compare, select
from spectral_repro.reporting.figures import NotDrawn
from spectral_repro.reporting.load import check_archive, matching, read_places
from spectral_repro.reporting.page import Speeds
from spectral_repro.reporting.papers import STEP_TIMES, TRAIN, Paper, load_paper, published, supply, supply_times
from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.runs import Damage, Run
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.site import write, write_site
from spectral_repro.reporting.verdicts import judge
from spectral_repro.workers import Mapper

QUOTES = ("'", '"')
PART = re.compile(r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|[^,])+""")  # of a list: a comma in quotes or brackets does not end it


def report(config: DictConfig, mapper: Mapper = map) -> None:
    """Prints and writes the report that the configuration asks for.

    Args:
        mapper: as the built-in map, but it may use other processes.

    Raises:
        UserError: if there are no runs, the folder cannot be written to, or something was left out.
    """
    if config.status:
        lines = _status(config)
    elif config.compare is not None:
        lines = _comparison(config, mapper)
    elif config.get("paper") is None:
        lines = _site(config, mapper)
    else:
        lines = _paper(config, mapper)
    left_out = []
    if damaged := sum(isinstance(line, Damage) for line in lines):
        left_out.append(f"{counted(damaged, 'place')} left out because of damage")
    if undrawn := sum(isinstance(line, NotDrawn) for line in lines):
        left_out.append(f"{counted(undrawn, 'figure')} not drawn")
    if left_out:
        raise UserError(f"{' and '.join(left_out)}, see above; the rest is reported")


def _status(config: DictConfig) -> list[str]:
    from spectral_repro.reporting.status import status  # torch, which no other report needs

    places, found = _places(config), []
    folders = [Path(path) for place in places for path in matching(place) if not path.endswith(".csv")]
    if not folders:
        raise UserError(f"runs={','.join(places)}: status=true needs a folder of runs; a file has no runs in progress")
    for folder in folders:
        text, notices = status(folder)
        _print_aside(notices)
        print(text)
        found += notices
    return found


def _site(config: DictConfig, mapper: Mapper) -> list[str]:
    runs, notices = read_places(_places(config), made_by=f"{' '.join(TRAIN)} -m paper=...")
    _print_aside(notices)
    papers = [_load(name, runs, config, mapper) for name in published()]
    written = write_site(papers, runs, notices, _out(config, "site"), Path(str(config.results)), mapper)
    return [*notices, *_printed(written)]


def _paper(config: DictConfig, mapper: Mapper) -> list[str]:
    name = config.paper.name
    runs, notices = read_places(_places(config), made_by=shlex.join([*TRAIN, "-m", f"paper={name}"]))
    paper = gather(_load(name, runs, config, mapper), runs)
    _print_aside([*notices, *paper.remarks])
    check_archive(out := _out(config, name), paper.runs, runs)
    judgements = judge(paper, Path(str(config.results)))
    return [*notices, *_printed(write(paper, out, judgements, Speeds(runs), mapper=mapper))]


def _comparison(config: DictConfig, mapper: Mapper) -> list[str]:
    read, notices = read_places(_places(config), made_by=f"{' '.join(TRAIN)} -m ...")
    _print_aside(notices)
    keys = [] if config.compare in ("auto", "") else listed(config.compare)
    runs = select(read, listed(config.where))
    if not runs:
        raise UserError(f"runs={','.join(_places(config))}: no runs found; runs are made by {' '.join(TRAIN)} -m ...")
    made_by = shlex.join([*REPORT, *map(_as_typed, HydraConfig.get().overrides.task)])
    compared = compare(runs, keys, config.metric, config.baseline, made_by, listed(config.best_over))
    _print_aside(compared.remarks)
    check_archive(out := _out(config, "comparison"), compared.runs, read)
    return [*notices, *_printed(write(compared, out, mapper=mapper))]


def _printed(lines: list[str]) -> list[str]:
    """Prints the lines, on standard error those about figures that could not be drawn, and returns them."""
    for line in lines:
        print(line, file=sys.stderr if isinstance(line, NotDrawn) else sys.stdout)
    return lines


def _print_aside(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def listed(value: object) -> list[str]:
    """The parts of a list, or of a text such as [a=1,b=2], a=1 or ['name=one, two',b=[1,2]]."""
    if value is None:
        return []
    if isinstance(value, ListConfig):
        return [str(each) for each in value]
    text = str(value)
    parts = map(str.strip, PART.findall(text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text))
    return [part[1:-1] if part[:1] in QUOTES and part[-1:] == part[:1] else part for part in parts if part]


def _as_typed(override: str) -> str:
    """An override without the quotes that Hydra needs."""
    key, _, value = override.partition("=")
    quote = value[:1]
    if quote in QUOTES and quote == value[-1:] and len(value) > 1:
        value = value[1:-1].replace(f"\\{quote}", quote)
    return f"{key}={value}"


def _out(config: DictConfig, name: str) -> Path:
    return Path("results", name) if config.out is None else Path(str(config.out))


def _load(name: str, runs: list[Run], config: DictConfig, mapper: Mapper) -> Paper:
    """A paper, with measured times of training steps and the published values in the user's file, if there are any."""
    paper = load_paper(read_paper(name), runs, mapper)
    paper = supply_times(paper, Path(str(config.results)) / name / STEP_TIMES)
    return supply(paper, Path(str(config.published))) if config.published else paper


def _places(config: DictConfig) -> list[str]:
    return [str(place) for place in (config.runs if isinstance(config.runs, ListConfig) else [config.runs])]
