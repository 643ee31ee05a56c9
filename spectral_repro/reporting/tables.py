"""Tables of sections, as numbers and as text, with captions and notes."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from spectral_repro.records import LAST, is_of_last
from spectral_repro.reporting.intervals import Statistic, interval
from spectral_repro.reporting.metrics import EVALUATED, VALIDATION
from spectral_repro.reporting.papers import PUBLISHED
from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Entry, Report, Section, by_seed
from spectral_repro.reporting.statistics import reference, statistics

PAIRED = ("difference", "difference_low", "difference_high", "pairs")
UNKNOWN = "–"
METHOD = ("", "Method")
ORIGINS = {"protocols": "the full protocol", "machines": "another machine"}


def aggregate(section: Section) -> pd.DataFrame:
    """A row of numbers for each method.

    Columns: method; mean, std (sample, over seeds; NaN for one seed) and best of the metric over the finished runs; seeds (with
    a value; several runs of one seed count as their mean), diverged and unfinished (numbers of runs); success_rate = 100
    finished / (finished + diverged), for trainings; largest_gradient and smallest_gap of the finished and diverged runs, NaN if
    they were not recorded.

    - With published values: published_mean, published_std, published_low and published_high (a 95 % interval), published_best,
      published_success_rate, and difference = mean - published_mean.
    - With published medians: median and its 95 % interval from median_low to median_high (NaN for fewer than six seeds),
      published_median, and difference = median - published_median.
    - For each further metric NAME of the table: NAME_mean, NAME_std and published_NAME.
    - Without published values: difference, the mean difference over common seeds to the baseline of a comparison, or else to
      the first row with a value, its 95 % t interval from difference_low to difference_high, and pairs, their number.
    - For tuned rows: chosen, the value in words, trials, the number of values tried, and validation_accuracy.
    """
    return _aggregated(section).copy()


@lru_cache(maxsize=128)  # Markdown, LaTeX, CSV and the page use the same numbers
@np.errstate(invalid="ignore")  # infinite values have no standard deviation
def _aggregated(section: Section) -> pd.DataFrame:
    metric, also, statistic = section.table.metric, section.table.also, section.table.statistic
    frame = pd.DataFrame([_numbers(section, entry) for entry in section.entries])
    if statistic == "median":
        frame = frame.join(pd.DataFrame([_median(section.values(entry, metric).dropna()) for entry in section.entries]))
    if section.published:
        for key in dict.fromkeys((statistic, *PUBLISHED, *(each.name for each in also))):
            values = [entry.row.published.get(key) for entry in section.entries]
            frame[f"published_{key}"] = pd.Series(values, dtype=float)
        frame["difference"] = frame[statistic] - frame[f"published_{statistic}"]
    else:
        pairs = statistics(section).set_index("method").reindex(frame["method"], columns=PAIRED).reset_index(drop=True)
        frame = frame.join(pairs)
    if choices := [entry.choice for entry in section.entries if entry.choice]:
        frame["chosen"] = [choice.value for choice in choices]
        frame["trials"] = [choice.trials for choice in choices]
        frame["validation_accuracy"] = [choice.validation for choice in choices]
    return frame.drop(columns=[column for column in frame if not metric.trained and column.endswith("success_rate")])


def _numbers(section: Section, entry: Entry) -> dict[str, Any]:
    metric, measured, diverged = section.table.metric, entry.measured, entry.in_state("diverged")
    values, beside = section.values(entry, metric), {each.name: section.values(entry, each) for each in section.table.also}
    return {
        "method": entry.row.label,
        "mean": values.mean(),
        "std": values.std(ddof=1),
        "best": values.agg(metric.best) if metric.best else float("nan"),
        **{f"{name}_mean": others.mean() for name, others in beside.items()},
        **{f"{name}_std": others.std(ddof=1) for name, others in beside.items()},
        "seeds": int(values.count()),
        "diverged": len(diverged),
        "unfinished": len(entry.runs) - len(measured) - len(diverged),
        "success_rate": entry.successes.mean(),
        "largest_gradient": pd.Series([run.largest_gradient for run in (*measured, *diverged)], dtype=float).max(),
        "smallest_gap": pd.Series([run.smallest_gap for run in (*measured, *diverged)], dtype=float).min(),
    }


def _median(values: pd.Series) -> dict[str, float]:
    low, high = interval(values, "median")
    return {"median": values.median(), "median_low": low, "median_high": high}


def formatted(section: Section) -> pd.DataFrame:
    """The table as text, with columns (group, name); a name may have two lines. Empty published columns are left out."""
    frame, metric, form, also = aggregate(section), section.table.metric, section.table.metric.form, section.table.also
    measured = [_measured(*pair, form) for pair in zip(frame.itertuples(), section.entries, strict=True)]
    columns = {METHOD: frame["method"], ("", "mean ± std"): measured}
    if section.table.baseline:
        columns |= _compared(section, frame)
        return pd.DataFrame(columns)
    if metric.best and section.published:
        columns["", "best"] = _texts(frame["best"], form)
    for each in also:
        columns["", each.short] = _means_and_stds(frame, f"{each.name}_mean", f"{each.name}_std", each.form)
    columns["", "seeds"] = frame["seeds"].astype(str)
    if "median" in frame:
        columns["", "median [95 %]"] = [_with_interval(row, form) for row in frame.itertuples()]
    if "success_rate" in frame:
        columns["", "success\n(%)"] = _texts(frame["success_rate"], ".0f")
    if _is_paired(section):
        columns |= _differences(frame, form)
    if section.published:
        intervals = zip(frame["published_low"], frame["published_high"], strict=True)
        published = {
            "mean ± std": _means_and_stds(frame, "published_mean", "published_std", form),
            "95 %\ninterval": [between(low, high, form) for low, high in intervals],
            **({"median": _texts(frame["published_median"], form)} if "published_median" in frame else {}),
            "best": _texts(frame["published_best"], form),
            **{each.short: _texts(frame[f"published_{each.name}"], each.form) for each in also},
        }
        if "published_success_rate" in frame:
            published["success\n(%)"] = _texts(frame["published_success_rate"], ".0f")
        columns |= {("published", name): texts for name, texts in published.items() if set(texts) != {UNKNOWN}}
        if "protocols" not in section.across:
            columns["", "difference\nacross machines" if section.across else "difference"] = _texts(
                frame["difference"], f"+{form}"
            )
    return pd.DataFrame(columns)


def _compared(section: Section, frame: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """The columns of a comparison after the mean: seeds, chosen values, runs without a result, differences to the baseline."""
    form, columns = section.table.metric.form, {("", "seeds"): frame["seeds"].astype(str).tolist()}
    if "chosen" in frame:
        columns["", "chosen"], columns["", "trials"] = frame["chosen"], frame["trials"].astype(str)
        columns["", "validation\n(%)"] = _texts(frame["validation_accuracy"], ".2f")
    if frame[["diverged", "unfinished"]].any(axis=None):
        columns["", "other runs"] = [_other_runs(entry) for entry in section.entries]
    columns |= _differences(frame, form)
    columns["", "pairs"] = [UNKNOWN if pd.isna(pairs) else f"{pairs:.0f}" for pairs in frame["pairs"]]
    return columns


def _differences(frame: pd.DataFrame, form: str) -> dict[tuple[str, str], list[str]]:
    """The columns of the differences over common seeds."""
    form = f"+{form}"
    intervals = [between(row.difference_low, row.difference_high, form) for row in frame.itertuples()]
    return {("", "difference"): _texts(frame["difference"], form), ("", "95 %\ninterval"): intervals}


def _is_paired(section: Section) -> bool:
    """Whether the table shows differences over common seeds: a comparison does, and so does a table without published values if
    two rows have at least two seeds in common.
    """
    return bool(section.table.baseline) or (not section.published and bool((aggregate(section)["pairs"] > 1).any()))


def _other_runs(entry: Entry) -> str:
    measured = entry.measured
    states = Counter(run.state for run in entry.runs if run not in measured)
    return ", ".join(f"{count} {state}" for state, count in states.items()) or UNKNOWN


def between(low: float, high: float, form: str) -> str:
    return UNKNOWN if pd.isna(low) or pd.isna(high) else f"{text(low, form)} to {text(high, form)}"


@np.errstate(invalid="ignore")  # infinite values have no standard deviation
def evaluations(section: Section) -> pd.DataFrame:
    """Evaluations of the trained networks as text: a row for each method, mean ± std over its seeds.

    Columns are (conditions, metric), so that measurements under different conditions are never mixed. The conditions include
    the weights if they are not those of the last step. Empty if nothing was measured.
    """
    found: defaultdict[Any, defaultdict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for place, entry in enumerate(section.entries):
        for run in entry.runs:
            for metric in EVALUATED:
                part = run.evaluation.get(metric.measurement or "", {})
                if part.get(metric.name) is not None:
                    found[metric, _conditions(part)][place].append((run.seed, part[metric.name]))
    places = sorted({place for values in found.values() for place in values})
    columns = {METHOD: [section.entries[place].row.label for place in places]}
    for (metric, conditions), values in sorted(found.items(), key=lambda item: EVALUATED.index(item[0][0])):
        own = [by_seed(values[place]) for place in places]
        columns[conditions, metric.label] = [_mean_and_std(each.mean(), each.std(ddof=1), metric.form) for each in own]
    return pd.DataFrame(columns, index=places)


def _conditions(part: dict[str, Any]) -> str:
    if is_of_last(part):
        return part["conditions"]
    checkpoint, chosen_by = part["settings"]["checkpoint"], part.get("environment", {}).get("best_by")
    chosen = f" by {chosen_by.replace('_', ' ')}" if chosen_by and checkpoint != LAST else ""
    averaged = ", averaged weights" if part["settings"].get("weights") == "ema" else ""
    return f"{part['conditions']}, {checkpoint}{chosen}{averaged}"


def spans(columns: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """The groups above the columns, with the number of columns of each; empty if no column has a group."""
    groups = [group for group, _ in columns]
    return [(group, len(list(members))) for group, members in groupby(groups)] if any(groups) else []


def _measured(row: Any, entry: Entry, form: str) -> str:
    if row.seeds:
        return _mean_and_std(row.mean, row.std, form)
    return "diverged" if row.diverged else "no finished run" if row.unfinished else "not measured" if entry.runs else "no run"


def _means_and_stds(frame: pd.DataFrame, means: str, stds: str, form: str) -> list[str]:
    return [_mean_and_std(*pair, form) for pair in zip(frame[means], frame[stds], strict=True)]


def _with_interval(row: Any, form: str) -> str:
    median = text(row.median, form)
    return median if pd.isna(row.median_low) else f"{median} [{row.median_low:{form}}–{row.median_high:{form}}]"


def _mean_and_std(mean: float, std: float, form: str) -> str:
    return text(mean, form) if pd.isna(std) else f"{text(mean, form)} ± {std:{form}}"


def _texts(values: pd.Series, form: str) -> list[str]:
    return [text(value, form) for value in values]


def text(value: float | None, form: str) -> str:
    return UNKNOWN if pd.isna(value) else f"{value:{form}}".replace("-", "−")


def markdown(section: Section) -> str:
    """The table with its caption and notes, the evaluations, and commands for the rows without a run."""
    return f"{section.table.title}. {_untitled(section)}"


def markdown_page(report: Report) -> str:
    """All tables with a run or published values, under the title of the report and that of each table."""
    shown = [section for section in report.sections if section.runs or section.published]
    return "\n".join([f"# {report.paper.title}\n", *(f"## {section.table.title}\n\n{_untitled(section)}" for section in shown)])


def _untitled(section: Section) -> str:
    parts = [_details(section), grid(formatted(section))]
    if lines := notes(section):
        parts.append("\n".join(f"- {line}" for line in lines))
    evaluated = evaluations(section)
    if len(evaluated):
        parts += ["Measured on the trained networks:", grid(evaluated)]
    if section.commands:
        parts.append("Rows without a run:\n\n" + "\n".join(f"    {command}" for command in dict.fromkeys(section.commands)))
    return "\n\n".join(parts) + "\n"


def grid(frame: pd.DataFrame) -> str:
    """A frame of texts with columns (group, name) as a Markdown table."""
    frame = frame.map(lambda text: text.replace("|", r"\|"))
    frame.columns = [f"{group} {name}".strip().replace("\n", " ") for group, name in frame.columns]
    alignment = ["left", *["right"] * (len(frame.columns) - 1)]
    return frame.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def csv(section: Section) -> str:
    return aggregate(section).to_csv(index=False)


def caption(section: Section) -> str:
    return f"{section.table.title}. {_details(section)}"


def _details(section: Section) -> str:
    return f"Protocol: {section.label}. {measurement(section)}"


def measurement(section: Section) -> str:
    """Sentences on the metric, the origin of the published values, and the machine and code of the measurement."""
    runs = section.results
    seeds = sorted({run.seed for run in runs})
    sentences = [f"{section.table.metric.label} {_when(section)}{_over(seeds, section.table.statistic)}."]
    shorts = [" ".join(each.short.split()) for each in section.table.also]
    sentences += [
        f"{short[:1].upper()}{short[1:]}: {each.label} {each.when}."
        for short, each in zip(shorts, section.table.also, strict=True)
    ]
    if runs and any(each.peak_of for each in (section.table.metric, *section.table.also)):
        splits = dict.fromkeys("validation" if VALIDATION in run.metrics else "test" for run in runs)
        sentences.append(f"Best epochs are chosen by {' or '.join(splits)} accuracy.")
    if measured := section.table.metric.measurement:
        parts = [run.evaluation[measured]["conditions"] for run in runs if measured in run.evaluation]
        sentences += [f"Measured with {condition}." for condition in dict.fromkeys(parts)]
    if _is_paired(section):
        sentences.append(
            f"Difference: to {reference(section)}, the mean over common seeds, with its 95 % t interval (none for a single "
            "seed)."
        )
    if choices := [entry.choice for entry in section.entries if entry.choice]:
        trials = sorted({choice.trials for choice in choices})
        tried = f"{trials[0]} to {trials[-1]} per row, so not equally tuned" if len(trials) > 1 else f"{trials[0]} per row"
        sentences.append(
            "Each row uses the value with the highest mean validation accuracy after the last epoch, chosen without the test "
            f"images. Trials: number of values that were tried ({tried})."
        )
    if section.published:
        sentences.append(f"Published values: {section.table.source}.")
        if section.across:
            origins = " and ".join(ORIGINS[each] for each in section.across)
            reduced = "protocols" in section.across
            end = "; do not compare them with these" if reduced else ", so the difference is across machines"
            sentences.append(f"They are from {origins}{end}.")
    if runs:
        sentences.append(f"Measured on {_machine(runs)}.")
    return " ".join(sentences)


def _when(section: Section) -> str:
    ranges = {row.over for row in section.table.rows}
    if section.table.metric.trained and len(ranges) == 1 and (range := ranges.pop()):
        first, last = range
        return f"after epoch {last}" if first == last else f"averaged over epochs {first} to {last}"
    return section.table.metric.when


def _over(seeds: list[int], statistic: Statistic) -> str:
    if len(seeds) > 1:
        median = ", and median (with its 95 % interval from six seeds on)" if statistic == "median" else ""
        return f", mean ± sample standard deviation{median} over seeds {ranges(seeds)}"
    return f", seed {seeds[0]}" if seeds else ""


def ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 (ascending) as 0–2, 5."""
    groups = [[number for _, number in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{group[0]}–{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)


def _machine(runs: list[Run]) -> str:
    def different(values: list[object]) -> list[str]:
        return sorted({str(value) for value in values if value is not None})

    commits = different([run.commit for run in runs])
    versions = different([run.versions.get("torch") for run in runs])
    days = different([(run.summary.get("started") or "")[:10] or None for run in runs])
    parts = [" and ".join(different([run.machine for run in runs]))]
    parts += [f"torch {version}" for version in versions]
    parts += [f"commit{'s' * (len(commits) > 1)} {' and '.join(commits)}"] if commits else []
    parts += [" to ".join(dict.fromkeys((days[0], days[-1])))] if days else []
    return ", ".join(parts)


def notes(section: Section) -> list[str]:
    """Notes below a table: divergences, seeds with several runs, runs that are not in the means, times that cannot be compared,
    initial weights, remarks about the data.
    """
    lines = []
    times = [metric.words.lower() for metric in (section.table.metric, *section.table.also) if metric.timing]
    if times and len(section.machines) > 1:
        lines.append(f"No {times[0]} is shown, because the runs are from different machines: {'; '.join(section.machines)}.")
    for entry in section.entries:
        if entry.choice and entry.choice.remark:
            lines.append(f"{entry.row.label}: {entry.choice.remark}.")
        lines += [f"{entry.row.label}, seed {run.seed}: {divergence(run)}." for run in entry.in_state("diverged")]
        for seed, runs in entry.repeated.items():
            folders = ", ".join(run.folder for run in runs)
            lines.append(f"{entry.row.label}, seed {seed}: the mean of its {len(runs)} runs, {folders}.")
        failed = {run.seed: failure(run) for run in entry.in_state("failed")}
        lines += [f"{entry.row.label}, seed {seed}: failed, {error}." for seed, error in failed.items() if error]
        left = [run.state for run in entry.runs if run not in section.results]
        states = {state: left.count(state) for state in ("running", "interrupted", "failed")}
        unfinished = sum(states.values())
        if unfinished and not section.table.baseline:  # a comparison has a column for them
            each = ", ".join(f"{number} {state}" for state, number in states.items() if number)
            lines.append(f"{entry.row.label}: {counted(unfinished, 'unfinished run')} left out of the mean ({each}).")
    starts = dict.fromkeys(run.identity.get("init.content") for run in section.results)
    lines += [f"Started from trained weights (init.content={content})." for content in starts if content]
    return lines + [f"Data: {note}." for note in dict.fromkeys(note for run in section.results for note in run.notes)]


def failure(run: Run) -> str:
    """The error of a failed run; empty if it is unknown."""
    return ((run.summary.get("failure") or {}).get("error") or "").rstrip(".")


def divergence(run: Run) -> str:
    failure = run.summary.get("failure") or {}
    text = "diverged"
    if failure.get("step") is not None:
        text += f" at step {failure['step']}"
    if failure.get("layer"):
        text += f", first the {failure.get('during') or 'values'} of {failure['layer']}"
    gap = failure.get("gap")
    if gap is not None and isfinite(gap):
        text += f"; smallest relative eigenvalue gap {gap:.2g}"
    return text
