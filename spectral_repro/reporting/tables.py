"""A section as a table: numbers, then text."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby

import pandas as pd

from spectral_repro.reporting.captions import caption, notes
from spectral_repro.reporting.metrics import EVALUATED, Metric
from spectral_repro.reporting.runs import LAST
from spectral_repro.reporting.sections import Entry, Section

PUBLISHED = ("mean", "std", "best", "success_rate")
UNKNOWN = "–"
METHOD = ("", "Method")


def aggregate(section: Section) -> pd.DataFrame:
    """A row of numbers for each method.

    Columns: method; mean, std (sample, over seeds; NaN for one seed) and best of the finished runs' metric, in its unit; seeds
    (finished runs with a value), diverged and unfinished (numbers of runs); success_rate = 100 finished / (finished +
    diverged), but not for a time; largest_gradient and smallest_gap of the finished and diverged runs, NaN where none is
    recorded.
    Where there are published values for the data set, also published_mean, published_std, published_best,
    published_success_rate and difference = mean - published_mean.
    """
    metric = section.table.metric
    frame = pd.DataFrame([_numbers(entry, metric) for entry in section.entries])
    if section.published:
        for key in PUBLISHED:
            values = [entry.row.published.get(key) for entry in section.entries]
            frame[f"published_{key}"] = pd.Series(values, dtype=float)
        frame["difference"] = frame["mean"] - frame["published_mean"]
    return frame.drop(columns=[column for column in frame if metric.timing and column.endswith("success_rate")])


def _numbers(entry: Entry, metric: Metric) -> dict[str, object]:
    finished, diverged = entry.in_state("finished"), entry.in_state("diverged")
    values = pd.Series([metric.of(run.metrics) for run in finished], dtype=float)
    return {
        "method": entry.row.label,
        "mean": values.mean(),
        "std": values.std(ddof=1),
        "best": values.agg(metric.best),
        "seeds": int(values.count()),
        "diverged": len(diverged),
        "unfinished": len(entry.runs) - len(finished) - len(diverged),
        "success_rate": 100 * len(finished) / (len(finished) + len(diverged)) if finished or diverged else float("nan"),
        "largest_gradient": pd.Series([run.largest_gradient for run in (*finished, *diverged)], dtype=float).max(),
        "smallest_gap": pd.Series([run.smallest_gap for run in (*finished, *diverged)], dtype=float).min(),
    }


def formatted(section: Section) -> pd.DataFrame:
    """The table as text, under columns (group, name); a name may take two lines. What nobody published has no column."""
    frame, form = aggregate(section), section.table.metric.form
    columns = {
        METHOD: frame["method"],
        ("", "mean ± std"): [_measured(*pair, form) for pair in zip(frame.itertuples(), section.entries, strict=True)],
        ("", "best"): _texts(frame["best"], form),
        ("", "seeds"): frame["seeds"].astype(str),
    }
    if "success_rate" in frame:
        columns["", "success\n(%)"] = _texts(frame["success_rate"], ".0f")
    if section.published:
        means_and_stds = zip(frame["published_mean"], frame["published_std"], strict=True)
        published = {"mean ± std": [_mean_and_std(*pair, form) for pair in means_and_stds]}
        published["best"] = _texts(frame["published_best"], form)
        if "published_success_rate" in frame:
            published["success\n(%)"] = _texts(frame["published_success_rate"], ".0f")
        columns |= {("published", name): texts for name, texts in published.items() if set(texts) != {UNKNOWN}}
        difference = " ".join(["difference\nacross", " and ".join(section.across)]) if section.across else "difference"
        columns["", difference] = _texts(frame["difference"], f"+{form}")
    return pd.DataFrame(columns)


def evaluations(section: Section) -> pd.DataFrame:
    """What was measured of the trained networks, as text: a row for each method with such runs, mean ± std over them.

    Columns (conditions, metric): the conditions name the checkpoint where it is not the last; numbers under other conditions
    never meet. Empty if nothing was measured.
    """
    found = defaultdict(lambda: defaultdict(list))
    for place, entry in enumerate(section.entries):
        for run in entry.runs:
            for metric in EVALUATED:
                part = run.evaluation.get(metric.measurement, {})
                if part.get(metric.name) is not None:
                    found[metric, _conditions(part)][place].append(part[metric.name])
    places = sorted({place for values in found.values() for place in values})
    columns = {METHOD: [section.entries[place].row.label for place in places]}
    for (metric, conditions), values in sorted(found.items(), key=lambda item: EVALUATED.index(item[0][0])):
        own = [pd.Series(values[place], dtype=float) for place in places]
        columns[conditions, metric.label] = [_mean_and_std(each.mean(), each.std(ddof=1), metric.form) for each in own]
    return pd.DataFrame(columns, index=places)


def _conditions(part: dict[str, object]) -> str:
    checkpoint = part["settings"]["checkpoint"]
    return part["conditions"] if checkpoint == LAST else f"{part['conditions']}, {checkpoint}"


def spans(columns: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """The groups that stand over the columns, with the number of columns of each; empty if no column has one."""
    groups = [group for group, _ in columns]
    return [(group, len(list(members))) for group, members in groupby(groups)] if any(groups) else []


def _measured(row: tuple, entry: Entry, form: str) -> str:
    if row.seeds:
        return _mean_and_std(row.mean, row.std, form)
    return "diverged" if row.diverged else "no finished run" if row.unfinished else "not measured" if entry.runs else "no run"


def _mean_and_std(mean: float, std: float, form: str) -> str:
    return text(mean, form) if pd.isna(std) else f"{mean:{form}} ± {std:{form}}"


def _texts(values: pd.Series, form: str) -> list[str]:
    return [text(value, form) for value in values]


def text(value: float | None, form: str) -> str:
    return UNKNOWN if pd.isna(value) else f"{value:{form}}".replace("-", "−")


def markdown(section: Section) -> str:
    parts = [caption(section), _grid(formatted(section))]
    if lines := notes(section):
        parts.append("\n".join(f"- {line}" for line in lines))
    evaluated = evaluations(section)
    if len(evaluated):
        parts += ["Measured of the trained networks:", _grid(evaluated)]
    if section.commands:
        parts.append("Rows without a run:\n\n" + "\n".join(f"    {command}" for command in section.commands))
    return "\n\n".join(parts) + "\n"


def _grid(frame: pd.DataFrame) -> str:
    frame.columns = [f"{group} {name}".strip().replace("\n", " ") for group, name in frame.columns]
    frame = frame.map(lambda text: text.replace("|", r"\|"))
    alignment = ["left", *["right"] * (len(frame.columns) - 1)]
    return frame.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def csv(section: Section) -> str:
    return aggregate(section).to_csv(index=False)
