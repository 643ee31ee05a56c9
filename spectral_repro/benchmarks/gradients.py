"""suite=gradients: error, gain, time and memory of every gradient method, compared with the exact gradient."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from tqdm import tqdm

from spectral_repro.benchmarks import digits
from spectral_repro.benchmarks.accuracy import relative_error
from spectral_repro.benchmarks.cases import Case
from spectral_repro.benchmarks.clock import time_interleaved
from spectral_repro.benchmarks.gradient_report import Numbers, displays
from spectral_repro.benchmarks.memory import peak
from spectral_repro.benchmarks.poster import approximation_errors, largest_factors
from spectral_repro.benchmarks.problems import Problem, draw
from spectral_repro.benchmarks.results import SuiteResult
from spectral_repro.benchmarks.spectra import NAMED, Spectrum, sweeps
from spectral_repro.benchmarks.tasks import DTYPES, TASKS
from spectral_repro.linalg.backward import Backward, Exact, TopN

PUBLISHED_SIZE = 256  # size of the matrices of which song2021's TopN keeps n eigenvalues
PER_MATRIX = ["forward_ms", "backward_ms", "total_ms", "total_low_ms", "total_high_ms", "peak_mib"]


@dataclass(frozen=True)
class Gradients:
    """What to measure, and how much of it.

    Args:
        methods: by name.
        largest: the largest size of methods that are too slow for all sizes.
        published: arguments of `approximation_errors` and `largest_factors`.
        sizes: d of the matrices.
        rows: total number of rows of the matrices of a batch; a batch has at least two matrices.
        conditions, gaps: powers of ten of the sweeps.
        sweep_up_to: the largest size of the sweeps.
        shown: sizes in the tables and figures.
        seconds, rounds: how long, and at least how often, the methods of one case are timed; see `time_interleaved`.
        checked: size of the matrices that are checked in 50 digits.
        device: where it is measured.
        seed: of the random matrices.
    """

    methods: Mapping[str, Backward]
    largest: Mapping[str, int]
    published: Mapping[str, Mapping]
    sizes: Sequence[int]
    rows: int
    conditions: Sequence[int]
    gaps: Sequence[int]
    sweep_up_to: int
    shown: Sequence[int]
    seconds: float
    rounds: int
    checked: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        torch.manual_seed(self.seed)
        numbers = Numbers(
            accuracy=self.accuracy(),
            times=self.times(),
            precision=self.precision(),
            approximation=approximation_errors(**self.published["approximation_error"]),
            factors=largest_factors(self.published["largest_factor"]),
        )
        files = {"gradients": numbers.accuracy, "times": numbers.times, "precision": numbers.precision}
        return SuiteResult("Gradients of matrix functions", self.left_out(), files, displays(numbers, self.shown))

    def accuracy(self) -> pd.DataFrame:
        """A row for each method, function, size, spectrum and dtype, with the numbers of `Case.accuracy`."""
        rows = []
        for problem, spectrum in self.problems():
            about = {"spectrum": spectrum, "condition": problem.condition, "gap": problem.gap, "matrices": problem.count}
            for case in self.cases(problem):
                if case.gradient.any():  # the gradient of the projector is 0 if all eigenvalues are equal
                    rows += [
                        {"method": name} | case.names | about | case.accuracy(method)
                        for name, method in self.usable(case).items()
                    ]
        return pd.DataFrame(rows)

    def times(self) -> pd.DataFrame:
        """A row for each method, function, size and dtype: milliseconds and MiB for one of the ``matrices`` of a batch."""
        frames = []
        for size in tqdm(self.sizes, "times", disable=None):
            problem = self.problem(NAMED["separated"], size)
            for case in self.cases(problem):
                jobs = {name: case.job(method) for name, method in self.usable(case).items()}
                frame = time_interleaved(jobs, self.device, self.seconds, self.rounds)
                frame["peak_mib"] = [peak(job, self.device) / 2**20 for job in jobs.values()]
                frame[PER_MATRIX] /= problem.count
                frames.append(frame.rename(columns={"name": "method"}).assign(**case.names, matrices=problem.count))
        return pd.concat(frames, ignore_index=True)

    def precision(self) -> pd.DataFrame:
        """A row for each function and spectrum: errors of the reference and of `Exact`, against 50 digits."""
        rows = []
        for spectrum, drawn in tqdm(self.spectra(self.checked).items(), "50 digits", disable=None):
            problem = draw(drawn, self.checked, 1, self.seed)
            decomposition = digits.decompose(problem.matrices[0])
            for name, task in TASKS.items():
                case = Case(problem, name, "float64", torch.device("cpu"))
                if case.gradient.any():
                    kept = task.kept(problem.size)
                    truth = digits.gradient(decomposition, problem.grad_output[0], task.scalar, case.shift, kept).unsqueeze(0)
                    errors = [relative_error(x, truth).item() for x in (case.gradient, case.forward(Exact())[1]())]
                    rows.append({"function": name, "size": problem.size, "spectrum": spectrum})
                    rows[-1] |= dict(zip(("reference_error", "exact_error"), errors, strict=True))
        return pd.DataFrame(rows)

    def left_out(self) -> list[str]:
        """A sentence for each method that is not run everywhere, because it is undefined or too slow there."""
        lines = [f"{name} is run up to d = {size}." for name, size in self.largest.items() if size < max(self.sizes)]
        refused: dict[str, list[str]] = {function: [] for function in TASKS}
        for case in self.cases(self.problem(NAMED["separated"], min(self.sizes))):
            refused[case.function_name] += [name for name, method in self.methods.items() if case.refusal(method)]
        lines += [f"{function} has no {', '.join(dict.fromkeys(names))}." for function, names in refused.items() if names]
        return lines

    def problems(self) -> Iterator[tuple[Problem, str]]:
        listed = [(size, spectrum) for size in self.sizes for spectrum in self.spectra(size)]
        for size, spectrum in tqdm(listed, "errors", disable=None):
            yield self.problem(self.spectra(size)[spectrum], size), spectrum

    def spectra(self, size: int) -> dict[str, Spectrum]:
        return NAMED | sweeps(self.conditions, self.gaps) if size <= self.sweep_up_to else NAMED

    def problem(self, spectrum: Spectrum, size: int) -> Problem:
        return draw(spectrum, size, max(2, self.rows // size), self.seed)

    def cases(self, problem: Problem) -> Iterator[Case]:
        return (Case(problem, task, dtype, self.device) for task in TASKS for dtype in DTYPES)

    def usable(self, case: Case) -> dict[str, Backward]:
        """The methods that are defined for this case and fast enough at its size."""
        size = case.problem.size
        return {
            name: at_size(method, size)
            for name, method in self.methods.items()
            if size <= self.largest.get(name, size) and not case.refusal(method)
        }


def at_size(method: Backward, size: int) -> Backward:
    """`TopN` with the same share of eigenvalues as n of 256; other methods are unchanged."""
    if isinstance(method, TopN):
        return replace(method, n=max(1, round(method.n * size / PUBLISHED_SIZE)))
    return method
