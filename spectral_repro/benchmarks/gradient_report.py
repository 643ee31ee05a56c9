"""The numbers of suite=gradients as tables and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectral_repro.benchmarks import gradient_figures as figures
from spectral_repro.benchmarks.results import Display, short
from spectral_repro.benchmarks.spectra import NAMED
from spectral_repro.benchmarks.tasks import DTYPES, TASKS

CONDITIONS = ("condition 1e4", "condition 1e8", "condition 1e12")  # columns of the tables, if measured


@dataclass(frozen=True)
class Numbers:
    """What `Gradients` measures."""

    accuracy: pd.DataFrame
    times: pd.DataFrame
    precision: pd.DataFrame
    approximation: pd.DataFrame
    factors: pd.DataFrame


def displays(numbers: Numbers, shown: Sequence[int]) -> list[Display]:
    """Figures and tables: errors at the first of the sizes ``shown``, times at all of them."""
    accuracy = numbers.accuracy[numbers.accuracy["size"] == shown[0]]
    return [*_figures(numbers, accuracy, shown), *_errors(accuracy), *_times(numbers.times, shown), *_checks(numbers)]


def _figures(numbers: Numbers, accuracy: pd.DataFrame, shown: Sequence[int]) -> list[Display]:
    return [
        *_sweeps(
            "error_by_condition",
            "Error against the condition number",
            f"Relative error of dL/dA, median over the matrices, d = {shown[0]}; eigenvalues from 1 to 1 / condition number in "
            "equal ratios.",
            accuracy,
            "condition",
        ),
        *_sweeps(
            "feature_error_by_condition",
            "Error of the gradient of features",
            "The same for dL/dX with A = X Xᵀ, the gradient that reaches the layers before. Directions in which the features "
            "hardly vary count for less.",
            accuracy,
            "condition",
            "feature_error",
        ),
        *_sweeps(
            "error_by_gap",
            "Error against the gap between eigenvalues",
            f"Relative error of dL/dA for pairs of eigenvalues a and a (1 − gap), a from 1 to {2 / shown[0]:.2g}.",
            accuracy,
            "gap",
        ),
        Display(
            "error_by_time",
            "Error against time",
            "Relative error of dL/dA for separated eigenvalues, against the time of the forward and backward pass for one "
            "matrix of a batch.",
            figure=figures.error_by_time(numbers.accuracy, numbers.times, shown),
        ),
    ]


def _sweeps(name: str, title: str, caption: str, accuracy: pd.DataFrame, kind: str, error: str = "error") -> Iterator[Display]:
    """A figure of the methods that the papers compare, and one or more of the other methods."""
    for number, methods in enumerate(figures.parts(accuracy["method"].unique())):
        others = (f"{name}_others{number}", f"{title}, other methods") if number else (name, title)
        yield Display(*others, caption, figure=figures.sweep(accuracy, kind, methods, error))


def _errors(accuracy: pd.DataFrame) -> list[Display]:
    size, matrices = accuracy["size"].iloc[0], accuracy["matrices"].iloc[0]
    by_function = [
        Display(
            f"errors_{function}_{dtype}",
            f"{task.title}, {dtype}",
            f"Relative error of dL/dA: the median over those of {matrices} matrices whose gradient is finite, d = {size}. In "
            "brackets: the angle to the exact gradient, if at least 1°. Largest gain: |dL/dA| / |dL/dF| over all spectra.",
            table=errors(accuracy.query("function == @function and dtype == @dtype")),
        )
        for function, task in TASKS.items()
        for dtype in DTYPES
    ]
    by_features = [
        Display(
            f"feature_errors_{dtype}",
            f"Gradient of features, {dtype}",
            f"Relative error of dL/dX with A = X Xᵀ, for features that hardly vary in some directions, d = {size}.",
            table=feature_errors(accuracy.query("dtype == @dtype")),
        )
        for dtype in DTYPES
    ]
    broken = Display(
        "not_finite",
        "Gradients that are not finite",
        f"Percent of the matrices of a spectrum, over all functions, d = {size}. Methods and spectra that are not listed have "
        "none.",
        table=not_finite(accuracy),
    )
    return [*by_function, *by_features, broken]


def _times(frame: pd.DataFrame, shown: Sequence[int]) -> list[Display]:
    return [
        Display(
            f"times_{dtype}",
            f"Time and memory, square root, {dtype}",
            "Milliseconds for the forward and backward pass of one matrix of a batch, median of interleaved rounds. Memory: "
            "peak MiB of new tensors for one matrix.",
            table=times(frame.query("function == 'sqrt' and dtype == @dtype"), shown),
        )
        for dtype in DTYPES
    ]


def _checks(numbers: Numbers) -> list[Display]:
    factors = numbers.factors.assign(**{name: numbers.factors[name].map("{:.2e}".format) for name in ("published", "own")})
    return [
        Display(
            "approximation_error",
            "The poster's approximation errors",
            "|series(r) − 1 / (1 − r)| for the ratio r of two eigenvalues. Recipe: the computation that gives the published "
            "figures, with powers of r in float64 and coefficients and sums in 20 digits (float64 alone represents a number "
            "near 1 to 1e−16). float64: the kernels of this package. The Padé approximant is 1 / (1 − r) itself, so its errors "
            "are rounding errors; those of Taylor are r^101 / (1 − r), and rounding errors.",
            table=approximation(numbers.approximation),
        ),
        Display(
            "largest_factor",
            "The poster's upper bounds of the gradient",
            "The largest factor between two eigenvalues that are clamped to the rounding unit u = 2.2e−16: |P(1) / Q(1)| / u "
            "for Padé (Q(1) is 0 up to rounding in 20 digits), 101 / u for Taylor, the limit for truncated, 1 / u for TopN.",
            table=factors,
        ),
        Display(
            "precision",
            "The exact gradient in 50 digits",
            f"Relative errors against 50 digits, d = {numbers.precision['size'].max()}. Reference: the gradient that all "
            "methods are compared with, computed from the eigenvalues and eigenvectors that the matrix was made of. Exact: the "
            "method, computed from the matrix. Both include the error of rounding the matrix, u times its condition number.",
            table=precision(numbers.precision),
        ),
    ]


def errors(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each method, a column for each spectrum."""
    spectra = [name for name in (*NAMED, *CONDITIONS) if name in set(frame["spectrum"])]
    cells = frame.assign(cell=[_error(row) for row in frame.itertuples()])
    table = cells.pivot(index="method", columns="spectrum", values="cell").loc[frame["method"].unique(), spectra]
    gains = frame.groupby("method")["gain_max"].max()
    return table.assign(**{"largest gain": gains.map(short)}).reset_index()


def _error(row: Any) -> str:
    if row.non_finite == 1:
        return "not finite"
    return short(row.error) + (f" ({row.angle_deg:.0f}°)" if row.angle_deg >= 1 else "")


def feature_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each method, a column for each function and each spectrum with small eigenvalues."""
    spectra = [name for name in ("deficient", *CONDITIONS) if name in set(frame["spectrum"])]
    table = frame.pivot(index="method", columns=["function", "spectrum"], values="feature_error").loc[frame["method"].unique()]
    table = table[[(function, spectrum) for function in TASKS for spectrum in spectra]].map(short)
    table.columns = [f"{function}, {spectrum}" for function, spectrum in table.columns]
    return table.reset_index()


def not_finite(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and dtype, a column for each spectrum; those without any such gradient are left out."""
    shares = frame.pivot_table(index=["method", "dtype"], columns="spectrum", values="non_finite", sort=False)
    shares = shares.loc[(shares > 0).any(axis=1), (shares > 0).any()]
    return shares.map(lambda share: f"{100 * share:.0f}").reset_index()


def times(frame: pd.DataFrame, shown: Sequence[int]) -> pd.DataFrame:
    """A row for each method: milliseconds by size, and memory for the sizes shown."""
    order = frame["method"].unique()
    milliseconds = frame.pivot(index="method", columns="size", values="total_ms").loc[order]
    memory = frame.pivot(index="method", columns="size", values="peak_mib").loc[order, list(shown)]
    milliseconds.columns = [f"d = {size}" for size in milliseconds.columns]
    memory.columns = [f"MiB, d = {size}" for size in memory.columns]
    return pd.concat([milliseconds, memory], axis=1).map(short).reset_index()


def approximation(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each ratio."""
    kinds = ("published", "recipe", "float64")
    table = frame.pivot(index="ratio", columns="method", values=list(kinds)).map("{:.1e}".format)
    table.columns = [f"{method} {kind}" for kind, method in table.columns]
    return table[[f"{method} {kind}" for method in frame["method"].unique() for kind in kinds]].reset_index()


def precision(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each spectrum."""
    table = frame.pivot(index="spectrum", columns="function", values=["reference_error", "exact_error"]).map(short)
    table.columns = [f"{function} {kind.removesuffix('_error')}" for kind, function in table.columns]
    ordered = [f"{function} {kind}" for function in frame["function"].unique() for kind in ("reference", "exact")]
    return table.loc[frame["spectrum"].unique(), ordered].reset_index()
