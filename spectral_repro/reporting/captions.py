"""What stands over and under a section's table."""

from itertools import groupby
from math import isfinite

from spectral_repro.reporting.intervals import Statistic
from spectral_repro.reporting.metrics import VALIDATION
from spectral_repro.reporting.protocols import counted
from spectral_repro.reporting.runs import Run
from spectral_repro.reporting.sections import Section

ORIGINS = {"protocols": "the full protocol", "machines": "another machine"}


def caption(section: Section) -> str:
    return f"{section.table.title}. Protocol: {section.label}. {measurement(section)}"


def measurement(section: Section) -> str:
    """What the numbers are, where they come from, and where and with which code they were measured."""
    runs = section.results
    seeds = sorted({run.seed for run in runs})
    sentences = [f"{section.table.metric.label} {_when(section)}{_over(seeds, section.table.statistic)}."]
    sentences += [f"{' '.join(each.short.split()).capitalize()}: {each.label} {each.when}." for each in section.table.also]
    if runs and any(each.peak_of for each in (section.table.metric, *section.table.also)):
        splits = dict.fromkeys("validation" if VALIDATION in run.metrics else "test" for run in runs)
        sentences.append(f"Best epochs are chosen by {' or '.join(splits)} accuracy.")
    if measured := section.table.metric.measurement:
        parts = [run.evaluation[measured]["conditions"] for run in runs if measured in run.evaluation]
        sentences += [f"Measured with {condition}." for condition in dict.fromkeys(parts)]
    if section.table.baseline:
        sentences.append(
            f"Difference: to {section.table.baseline}, mean over the seeds that both have, with its 95 % t interval; one seed "
            "alone has none."
        )
    if section.published:
        sentences.append(f"Published values: {section.table.source}.")
        if section.across:
            origins = " and ".join(ORIGINS[each] for each in section.across)
            sentences.append(f"They come from {origins}, so the difference is across {' and '.join(section.across)}.")
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
        median = ", and median, with its 95 % interval from six seeds on," if statistic == "median" else ""
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
    """What the table cannot show: divergences, seeds with several runs, runs left out of the means, times that cannot be
    compared, weights to start from, peculiarities of the data.
    """
    lines = []
    times = [metric.words.lower() for metric in (section.table.metric, *section.table.also) if metric.timing]
    if times and len(section.machines) > 1:
        lines.append(f"No {times[0]} is shown, as the runs come from different machines: {'; '.join(section.machines)}.")
    for entry in section.entries:
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
    """Why a run failed, as far as it is known."""
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
