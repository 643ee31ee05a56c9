"""The figures of suite=gradients."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_repro.benchmarks.tasks import DTYPES, TASKS
from spectral_repro.reporting.style import INK, MOST_LINES, STYLE, laid_out, looks

EXACT = "exact"
LABELS = {  # the names in the papers
    EXACT: "Exact",
    "svd": "SVD",
    "taylor": "SVD-Taylor",
    "pade": "SVD-Padé",
    "pi": "SVD-PI",
    "newton_schulz": "SVD-Newton",
    "autograd": "SVD, torch's own",
    "truncated": "SVD-Trunc",
    "topn": "SVD-TopN",
    "power": "PI",
    "isqrt_cov": "iSQRT-COV",
    "lyapunov": "Lyapunov",
    "lyapunov_mpa": "MPA-Lya",
    "lyapunov_mtp": "MTP-Lya",
    "lyapunov_newton_schulz": "Lyapunov, Newton-Schulz",
    "pi_whole": "SVD-PI, all eigenvectors",
}
LIMITS = {"float64": (1e-16, 1e3), "float32": (1e-8, 1e3)}  # of the axes of errors
NAMES = {"whitening": "Whitening", "sqrt": "Square root", "pca": "PCA"}
ERRORS = {"error": "Relative error of dL/dA", "feature_error": "Relative error of dL/dX"}
SWEEPS = {"condition": "Condition number", "gap": "Relative gap in each pair of eigenvalues"}


def parts(methods: Iterable[str]) -> list[list[str]]:
    """The methods in parts of at most `MOST_LINES`, each with the exact gradient; the methods of the papers come first."""
    others = [name for name in sorted(methods, key=lambda name: [*LABELS, name].index(name)) if name != EXACT]
    size = MOST_LINES - 1
    return [[EXACT, *others[start : start + size]] for start in range(0, len(others), size)]


def sweep(frame: pd.DataFrame, kind: str, methods: Sequence[str], error: str = "error") -> Figure:
    """A column of errors against the number in the names of the spectra "<kind> <number>", a panel for each function and dtype.

    Errors outside the panel are drawn on its edge. A cross at the top marks gradients that are not finite.
    """
    swept = frame[frame["spectrum"].str.startswith(kind) & frame["method"].isin(methods)]
    swept = swept.assign(x=swept["spectrum"].str.split().str[1].astype(float))
    exact = {"color": INK, "linestyle": "-", "marker": "", "linewidth": 4, "alpha": 0.35}
    style: dict[str, dict[str, Any]] = {EXACT: exact} | {
        name: {"color": look.colour, "dashes": look.dashes or (1, 0), "marker": look.marker, "linewidth": 1.2}
        for name, look in looks(methods[1:]).items()
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 8.4), layout="constrained")
        panels = figure.subplots(len(TASKS), len(DTYPES), sharex=True, sharey="col")
        for function, row in zip(TASKS, panels, strict=True):
            for dtype, axes in zip(DTYPES, row, strict=True):
                _lines(axes, swept.query("function == @function and dtype == @dtype"), error, style)
                axes.set_title(f"{NAMES[function]}, {dtype}", fontsize="medium")
        for axes in panels[:, 0]:
            axes.set_ylabel(ERRORS[error])
        for axes in panels[-1]:
            axes.set_xlabel(SWEEPS[kind])
        if kind == "gap":
            panels[0, 0].invert_xaxis()
        handles = [Line2D([], [], label=LABELS.get(name, name), markersize=3.5, **look) for name, look in style.items()]
        _legend(figure, [*handles, Line2D([], [], color=INK, linestyle="", marker="x", label="some or all not finite")])
        return laid_out(figure)


def _lines(axes: Axes, frame: pd.DataFrame, error: str, style: dict[str, dict[str, Any]]) -> None:
    floor, ceiling = LIMITS[frame["dtype"].iloc[0]]
    axes.set(xscale="log", yscale="log", ylim=(floor, ceiling))
    axes.minorticks_off()
    height = 0.96
    for name, rows in frame.groupby("method", sort=False):
        rows = rows.sort_values("x")
        axes.plot(rows["x"], rows[error].clip(floor, ceiling), markersize=3, **style[name])
        broken = rows["x"][rows["non_finite"] > 0]
        if len(broken):
            cross = {"marker": "x", "linestyle": "", "markersize": 4.5, "color": style[name]["color"]}
            axes.plot(broken, [height] * len(broken), transform=axes.get_xaxis_transform(), **cross)
            height -= 0.045


def error_by_time(accuracy: pd.DataFrame, times: pd.DataFrame, shown: Sequence[int]) -> Figure:
    """Error for separated eigenvalues against time: a row of panels for each root, a column for each size."""
    keys = ["method", "function", "size", "dtype"]
    points = accuracy[accuracy["spectrum"] == "separated"].merge(times[[*keys, "total_ms"]], on=keys)
    names = accuracy["method"].unique()
    style = {name: {"color": look.colour, "marker": look.marker} for name, look in looks(names).items()}
    functions = ("whitening", "sqrt")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.2), layout="constrained")
        panels = figure.subplots(len(functions), len(shown), sharex="col", sharey=True, squeeze=False)
        for function, row in zip(functions, panels, strict=True):
            for size, axes in zip(shown, row, strict=True):
                for point in points.query("function == @function and size == @size").itertuples():
                    axes.plot(point.total_ms, point.error, markersize=5.5, **_mark(style[point.method], point.dtype))
                axes.set(xscale="log", yscale="log", ylim=LIMITS["float64"], title=f"{NAMES[function]}, d = {size}")
        for axes in panels[:, 0]:
            axes.set_ylabel(ERRORS["error"])
        for axes in panels[-1]:
            axes.set_xlabel("Milliseconds for one matrix")
        handles = [Line2D([], [], label=LABELS.get(name, name), **_mark(look, "float64")) for name, look in style.items()]
        handles.append(Line2D([], [], label="hollow: float32", **_mark({"color": INK, "marker": "o"}, "float32")))
        _legend(figure, handles)
        return laid_out(figure)


def _mark(look: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The style of a line's points: filled for float64, hollow for float32."""
    face = look["color"] if dtype == "float64" else "none"
    return {"marker": look["marker"], "linestyle": "", "color": look["color"], "markerfacecolor": face}


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
