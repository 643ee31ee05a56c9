"""suite=steps: time of a training step for rows of papers' tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from spectral_repro.benchmarks.clock import Job, time_interleaved
from spectral_repro.benchmarks.references import whole
from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.tables import read_paper
from spectral_repro.configuration.values import TEXT, any_of, list_of
from spectral_repro.errors import UserError
from spectral_repro.training.autotune import ready
from spectral_repro.training.step import hybrids
from spectral_repro.training.trainer import Trainer

NOTE = (
    "A step of the trainer on one batch of random images in memory: forward and backward pass, optimiser and constraint, with "
    "learning rate 0. Medians and quartiles of interleaved rounds, each time taken right after an untimed step. The cost of a "
    "constraint that is applied every n steps is divided by n; it is measured with all kernels at twice the bound."
)


@dataclass(frozen=True)
class Steps:
    """What to measure, and how much of it.

    Writes step_times.csv, a line for each row: row, label, milliseconds, low, high (quartiles), rounds, paper, batch_size,
    precision, threads. A row of several tables has one line, with the label of the first.

    Args:
        experiments: rows of papers' tables as paper/row, or patterns such as common_ground/zca_*, or a list of both.
        overrides: added to those of every row, such as precision=float32.
        seconds, rounds: how long, and at least how often, all rows are timed; see `time_interleaved`. All networks are in
            memory at once.
        device: where it is measured.
        seed: of the random numbers.

    Raises:
        UserError: if no row is named, or a name matches no row.
    """

    experiments: str | Sequence[str] | None
    overrides: Sequence[str]
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        any_of(TEXT, list_of(TEXT)).check("experiments", self.experiments)
        list_of(TEXT).check("overrides", self.overrides)
        jobs: dict[Any, Job] = {}
        parts: dict[str, Any] = {}
        about: list[dict[str, Any]] = []
        for name in tqdm(self.names(), "networks", disable=None):
            torch.manual_seed(self.seed)
            config = compose([f"experiment={name}", *self.overrides])
            trainer, batch = ready(config, self.device)
            jobs_of_row, parts[name] = step_jobs(trainer, batch)
            jobs |= {(name, kind): job for kind, job in jobs_of_row.items()}
            about.append({"batch_size": len(batch[1]), "precision": trainer.settings.precision})
        frame = time_interleaved(jobs, self.device, self.seconds, self.rounds).set_index("name")
        rows = [self.row(name, parts[name], frame) | each for name, each in zip(parts, about, strict=True)]
        numbers = pd.DataFrame(rows).assign(threads=torch.get_num_threads())
        caption = f"Milliseconds of one step, median of {numbers['rounds'].min()} rounds."
        table = Display("step_times", "Time of a training step", caption, table=shown(numbers))
        return SuiteResult("Training steps", [NOTE], {"step_times": numbers}, [table])

    def names(self) -> list[str]:
        """The rows that the patterns match, in the order of the patterns and the tables."""
        known = [f"{paper}/{row}" for paper in options("paper") for row in labels(paper)]
        found: dict[str, None] = {}
        for pattern in [self.experiments] if isinstance(self.experiments, str) else self.experiments or ():
            matches = [name for name in known if fnmatchcase(name, pattern)]
            if not matches:
                raise UserError(f"experiments={pattern}: no row of a paper's tables has this name; write paper/row")
            found |= dict.fromkeys(matches)
        return list(found)

    def row(self, name: str, parts: Mapping[str, float], frame: pd.DataFrame) -> dict[str, Any]:
        def total(column: str) -> float:
            return sum(share * frame.at[(name, kind), column] for kind, share in parts.items())

        paper, _, row = name.partition("/")
        times = {"milliseconds": total("total_ms"), "low": total("total_low_ms"), "high": total("total_high_ms")}
        rounds = frame.at[(name, next(iter(parts))), "rounds"]
        return {"row": row, "label": labels(paper)[row], **times, "rounds": rounds, "paper": paper}


def labels(paper: str) -> dict[str, str]:
    """The labels of a paper's rows by name, in the order of its tables."""
    found: dict[str, str] = {}
    for table in read_paper(paper)["tables"].values():
        for row in table["rows"]:
            found.setdefault(row["name"], row["label"])
    return found


def step_jobs(trainer: Trainer, batch: tuple[Tensor, Tensor]) -> tuple[dict[str, Job], dict[str, float]]:
    """The kinds of a trainer's steps as jobs, and how often each kind occurs, as a share of all steps.

    The learning rates are set to 0, so that all steps start from the same weights.
    """
    state, constraint = trainer.state, trainer.state.weights.constraint
    state.full_rates = [0.0] * len(state.full_rates)

    def step(number: int) -> None:
        state.step = number
        trainer.step(*batch)

    if constraint is None:
        jobs = {"step": whole(lambda: step(0))}
        if not (changing := hybrids(state.model)):
            return jobs, {"step": 1.0}
        jobs["switched"] = whole(lambda: step(state.steps - 1))
        switch = changing[0].switch
        return jobs, {"step": switch, "switched": 1 - switch}
    norm = 2 * max(constraint.clip_to, constraint.linear_to or 0)
    kernels = [operator.weight for operator in constraint.bounded]
    large = [operator.weight * (norm / operator.norm()) for operator in constraint.bounded]

    def bounded() -> None:
        torch._foreach_copy_(kernels, large)
        step(constraint.every - 1)

    jobs = {"step": whole(lambda: step(0)), "bounded": whole(bounded)}
    if constraint.every == 1:
        return {"bounded": jobs["bounded"]}, {"bounded": 1.0}
    return jobs, {"step": 1 - 1 / constraint.every, "bounded": 1 / constraint.every}


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    quartiles = zip(numbers["low"], numbers["high"], strict=True)
    return pd.DataFrame(
        {
            "row": numbers["row"],
            "label": numbers["label"],
            "ms": numbers["milliseconds"].map(short),
            "quartiles": ["{}–{}".format(*map(short, pair)) for pair in quartiles],
            "precision": numbers["precision"],
        }
    )
