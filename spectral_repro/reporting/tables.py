"""A section as a table: numbers, then text."""

from collections.abc import Iterable
from itertools import groupby

import pandas as pd

from spectral_repro.reporting.captions import caption, notes
from spectral_repro.reporting.sections import Entry, Section

PUBLISHED = ("mean", "std", "best", "success_rate")
UNKNOWN = "–"


def aggregate(section: Section) -> pd.DataFrame:
    """A row of numbers for each method.

    Columns: method; mean, std (sample, over seeds; NaN for one seed) and best of the finished runs' metric after the last
    epoch, in percent; seeds, diverged and unfinished (numbers of runs); success_rate = 100 finished / (finished + diverged).
    Where there are published values for the data set, also published_mean, published_std, published_best,
    published_success_rate and difference = mean - published_mean.
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
    """The table as text, under columns (group, name); a name may take two lines. What nobody published has no column."""
    frame = aggregate(section)
    measured = {
        ("", "Method"): frame["method"],
        ("", "mean ± std"): [_measured(row) for row in frame.itertuples()],
        ("", "best"): _texts(frame["best"], "{:.2f}"),
        ("", "seeds"): frame["seeds"].astype(str),
        ("", "success\n(%)"): _texts(frame["success_rate"], "{:.0f}"),
    }
    if not section.published:
        return pd.DataFrame(measured)
    means_and_stds = zip(frame["published_mean"], frame["published_std"], strict=True)
    published = {
        ("published", "mean ± std"): [_mean_and_std(*pair) for pair in means_and_stds],
        ("published", "best"): _texts(frame["published_best"], "{:.2f}"),
        ("published", "success\n(%)"): _texts(frame["published_success_rate"], "{:.0f}"),
    }
    difference = "difference" if section.full else "difference\nacross protocols"
    return pd.DataFrame(
        measured
        | {column: texts for column, texts in published.items() if set(texts) != {UNKNOWN}}
        | {("", difference): _texts(frame["difference"], "{:+.2f}")}
    )


def spans(columns: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """The groups that stand over the columns, with the number of columns of each; empty if no column has one."""
    groups = [group for group, _ in columns]
    return [(group, len(list(members))) for group, members in groupby(groups)] if any(groups) else []


def _measured(row: tuple) -> str:
    if row.seeds:
        return _mean_and_std(row.mean, row.std)
    return "diverged" if row.diverged else "no finished run" if row.unfinished else "no run"


def _mean_and_std(mean: float, std: float) -> str:
    return _text(mean, "{:.2f}") if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def _texts(values: pd.Series, form: str) -> list[str]:
    return [_text(value, form) for value in values]


def _text(value: float, form: str) -> str:
    return UNKNOWN if pd.isna(value) else form.format(value).replace("-", "−")


def markdown(section: Section) -> str:
    frame = formatted(section)
    frame.columns = [f"{group} {name}".strip().replace("\n", " ") for group, name in frame.columns]
    frame = frame.map(lambda text: text.replace("|", r"\|"))
    alignment = ["left", *["right"] * (len(frame.columns) - 1)]
    parts = [caption(section), frame.to_markdown(index=False, disable_numparse=True, colalign=alignment)]
    if lines := notes(section):
        parts.append("\n".join(f"- {line}" for line in lines))
    if section.commands:
        parts.append("Rows without a run:\n\n" + "\n".join(f"    {command}" for command in section.commands))
    return "\n\n".join(parts) + "\n"


def csv(section: Section) -> str:
    return aggregate(section).to_csv(index=False)
