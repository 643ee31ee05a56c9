"""A section as a table: numbers, then Markdown, LaTeX and CSV."""

from collections.abc import Iterable
from itertools import groupby

import pandas as pd

from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Section

PUBLISHED = ("mean", "std", "best", "success_rate")
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--"}
)


def aggregate(section: Section) -> pd.DataFrame:
    """A row of numbers for each method.

    Columns: method; mean, std (sample, over seeds; NaN for one seed) and best of the finished runs' metric after the last epoch,
    in percent; seeds, diverged and unfinished (numbers of runs); success_rate = 100 finished / (finished + diverged). Where
    there are published values for the data set, also published_mean, published_std, published_best, published_success_rate and
    difference = mean - published_mean.
    """
    frame = pd.DataFrame([_numbers(entry, section.paper.metric) for entry in section.entries])
    if section.published:
        for key in PUBLISHED:
            values = [entry.row.published.get(key) for entry in section.entries]
            frame[f"published_{key}"] = pd.Series(values, dtype=float)
        frame["difference"] = frame["mean"] - frame["published_mean"]
    return frame


def _numbers(entry: Entry, metric: str) -> dict[str, object]:
    finished, diverged = entry.in_state("finished"), entry.in_state("diverged")
    values = pd.Series([run.final(metric) for run in finished], dtype=float)
    return {
        "method": entry.row.label,
        "mean": values.mean(),
        "std": values.std(ddof=1),
        "best": values.max(),
        "seeds": len(finished),
        "diverged": len(diverged),
        "unfinished": len(entry.runs) - len(finished) - len(diverged),
        "success_rate": 100 * len(finished) / (len(finished) + len(diverged)) if finished or diverged else float("nan"),
    }


def formatted(section: Section) -> pd.DataFrame:
    """The table as text, under columns (group, name)."""
    frame = aggregate(section)
    columns = {
        ("", "Method"): frame["method"],
        ("", "mean ± std"): [_measured(row) for row in frame.itertuples()],
        ("", "best"): _texts(frame["best"], "{:.2f}"),
        ("", "seeds"): frame["seeds"].astype(str),
        ("", "success (%)"): _texts(frame["success_rate"], "{:.0f}"),
    }
    if section.published:
        group = "published"
        columns |= {
            (group, "mean ± std"): [
                _mean_and_std(*pair) for pair in zip(frame.published_mean, frame.published_std, strict=True)
            ],
            (group, "best"): _texts(frame["published_best"], "{:.2f}"),
            (group, "success (%)"): _texts(frame["published_success_rate"], "{:.0f}"),
            ("", "difference" if section.full else "difference across protocols"): _texts(frame["difference"], "{:+.2f}"),
        }
    return pd.DataFrame(columns)


def _measured(row: tuple) -> str:
    if row.seeds:
        return f"{row.mean:.2f} ± {_text(row.std, '{:.2f}')}"
    return "diverged" if row.diverged else "no finished run" if row.unfinished else "no run"


def _mean_and_std(mean: float, std: float) -> str:
    return _text(mean, "{:.2f}") if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def _texts(values: pd.Series, form: str) -> list[str]:
    return [_text(value, form) for value in values]


def _text(value: float, form: str) -> str:
    return "–" if pd.isna(value) else form.format(value).replace("-", "−")


def caption(section: Section) -> str:
    """What the numbers are, where they come from, and on what machine they were measured."""
    runs = section.results
    seeds = sorted({run.seed for run in runs})
    over = (
        f", mean ± sample standard deviation over seeds {ranges(seeds)}" if seeds[1:] else "".join(f", seed {n}" for n in seeds)
    )
    sentences = [
        f"{section.table.title}.",
        f"Protocol: {section.label}.",
        f"{section.paper.metric_name} in percent after the last epoch{_over(sorted({run.seed for run in runs}))}.",
    ]
    if section.published:
        sentences.append(f"Published values: {section.paper.source}.")
        if not section.full:
            sentences.append("They come from the full protocol, so the difference is across protocols.")
    if runs:
        sentences.append(f"Measured on {_machine(runs)}.")
    return " ".join(sentences)


def _over(seeds: list[int]) -> str:
    if len(seeds) > 1:
        return f", mean ± sample standard deviation over seeds {ranges(seeds)}"
    return f", seed {seeds[0]}" if seeds else ""


def ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 (ascending) as 0–2, 5."""
    groups = [[number for _, number in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{group[0]}–{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)


def _machine(runs: list[Run]) -> str:
    def values(*keys: str) -> list[str]:
        found = set()
        for run in runs:
            value = run.summary
            for key in keys:
                value = (value or {}).get(key)
            found |= {str(value)} if value is not None else set()
        return sorted(found)

    parts = [
        " and ".join(values("device")) or "an unnamed device",
        *(f"{number} thread{'s' * (number != '1')}" for number in values("threads")),
        *(f"torch {version}" for version in values("versions", "torch")),
    ]
    days = sorted({moment[:10] for moment in values("started")})
    if days:
        parts.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    return ", ".join(parts)


def notes(section: Section) -> list[str]:
    """What the table cannot show: every divergence, and the runs that are left out of the means."""
    lines = []
    for entry in section.entries:
        lines += [f"{entry.row.label}, seed {run.seed}: {_failure(run)}." for run in entry.in_state("diverged")]
        left_out = [(state, len(entry.in_state(state))) for state in ("running", "interrupted", "failed")]
        if texts := [f"{number} {state}" for state, number in left_out if number]:
            total = counted(sum(number for _, number in left_out), "unfinished run")
            lines.append(f"{entry.row.label}: {total} left out of the mean ({', '.join(texts)}).")
    return lines


def _failure(run: Run) -> str:
    failure = run.summary.get("failure") or {}
    where = {"step": "at step {}", "layer": "in {}", "during": "during {}"}
    parts = [text.format(failure[key]) for key, text in where.items() if failure.get(key) is not None]
    error = " ".join(str(failure.get("error") or "").split())
    return " ".join(["diverged", *parts]) + (f": {error.rstrip('.')}" if error else "")


def markdown(section: Section) -> str:
    frame = formatted(section)
    frame.columns = [f"{group} {name}".strip() for group, name in frame.columns]
    frame = frame.map(lambda text: text.replace("|", r"\|"))
    alignment = ["left", *["right"] * (len(frame.columns) - 1)]
    parts = [caption(section), frame.to_markdown(index=False, disable_numparse=True, colalign=alignment)]
    if lines := notes(section):
        parts.append("\n".join(f"- {line}" for line in lines))
    if section.commands:
        parts.append("Rows without a run:\n\n" + "\n".join(f"    {command}" for command in section.commands))
    return "\n\n".join(parts) + "\n"


def latex(section: Section) -> str:
    """A table environment; needs the package booktabs."""
    frame = formatted(section)
    lines = [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption(section).translate(LATEX)}}}",
        rf"\label{{tab:{section.name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(frame.columns) - 1)}}}",
        r"\toprule",
        *_spanners(spans(frame.columns)),
        _line(name for _, name in frame.columns),
        r"\midrule",
        *(_line(row) for row in frame.itertuples(index=False)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if remarks := notes(section):
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [rf"{remark.translate(LATEX)}\par" for remark in remarks]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def spans(columns: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """The groups that stand over the columns, with the number of columns of each; empty if no column has one."""
    groups = [group for group, _ in columns]
    return [(group, len(list(members))) for group, members in groupby(groups)] if any(groups) else []


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"


def _spanners(groups: list[tuple[str, int]]) -> list[str]:
    cells, rules, first = [], [], 1
    for group, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{group}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if group else []
        first += width
    return [" & ".join(cells) + r" \\", "".join(rules)] if groups else []


def csv(section: Section) -> str:
    return aggregate(section).to_csv(index=False)
