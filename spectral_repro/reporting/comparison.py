"""Comparisons of any runs: tables with a row for each choice or value that differs, compared with a baseline."""

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from spectral_repro.configuration.folders import parse_value
from spectral_repro.configuration.identity import AS_BEFORE, digest, within, without_as_before
from spectral_repro.errors import UserError
from spectral_repro.reporting import naming
from spectral_repro.reporting.metrics import METRICS, VALIDATION, Metric
from spectral_repro.reporting.papers import Axis, Paper, Row, Table, file_name
from spectral_repro.reporting.protocols import counted, hashable
from spectral_repro.reporting.runs import Run, completed
from spectral_repro.reporting.sections import Choice, Entry, Report, Section, by_machine, by_seed, tables_of

REPORT = ("python", "-m", "spectral_repro.report")
RUNS = "results/runs"
DATA = ("dataset.name", "dataset.num_classes", "dataset.test_images", "dataset.load._target_", "dataset.content")
TREATMENTS = (
    *("norm", "pooling", "conv", "optimizer", "schedule", "constraint", "penalty", "gradient_clipping", "init", "finetune"),
    *("loss", "param_groups"),
)


def compare(
    runs: Iterable[Run],
    keys: Sequence[str] = (),
    metric: str | None = None,
    baseline: str | None = None,
    command: str = "",
    best_over: Sequence[str] = (),
) -> Report:
    """A table for each protocol, with a row for each combination of the compared values, in the order of the runs.

    With ``best_over`` each method is tuned: its row has the runs of the value (such as the learning rate) with the highest mean
    validation accuracy after the last epoch. Values with a diverged run are used only if there is no other. The test images are
    not used for the choice. AlgoPerf compares training algorithms in this way (Dahl et al., 2023): each is tuned with the same
    number of trials on validation data.

    Args:
        runs: to compare. Runs that differ in the seed alone share a row.
        keys: to compare by: keys such as optimizer.lr, whole groups such as norm, or their last parts. All other values that
            determine the result are the protocol. Empty: all keys that differ between runs of one data set and scale.
        metric: name of a metric in `METRICS`; None: the test accuracy, or else the first metric that was measured.
        baseline: label of the row that the others are compared with, which comes first; None: the first row with a result.
        command: that makes this comparison, for its page.
        best_over: keys, or their last parts, of which each row uses the best value.

    Raises:
        UserError: if no run has a key, the metric, the baseline or, with ``best_over``, a validation accuracy.

    Example:
        >>> runs, _ = read_places(["results/runs"], made_by="a sweep over optimizer and optimizer.lr")  # doctest: +SKIP
        >>> report = compare(runs, ["optimizer"], best_over=["optimizer.lr"])  # doctest: +SKIP
    """
    runs = completed(runs)
    measured = choose_metric(runs, metric)
    compared = tuple(dict.fromkeys(key for text in keys for key in meant(f"compare={text}", text, runs)))
    tuned = tuple(dict.fromkeys(key for text in best_over for key in meant(f"best_over={text}", text, runs)))
    if tuned and not any(_validated(run) for run in runs):
        raise UserError(
            f"best_over=[{','.join(best_over)}]: no run has a validation accuracy to choose by; train with images set aside, "
            "such as dataset.validation_images=5000"
        )
    by_protocol = defaultdict(list)
    for run in runs:
        by_protocol[_protocol(run, compared, tuned)].append(run)
    kept = [group for group in by_protocol.values() if not tuned or any(map(_validated, group))]
    unvalidated = len(runs) - sum(map(len, kept))
    groups = [_rows(group, compared, tuned) for group in kept]
    several = [rows for rows in groups if len(rows) > 1]
    left = sum(len(each) for rows in groups if len(rows) == 1 for each in rows.values()) if several else 0
    paper = Paper("comparison", "Comparison", "", compared, (), command)
    found = [_section(paper, list(rows.values()), measured, compared, tuned) for rows in several or groups]
    sections = [part for section in _named(found) for part in by_machine(section)]
    labels = dict.fromkeys(row.label for section in sections for row in section.table.rows)
    if baseline is not None and baseline not in labels:
        raise UserError(f"baseline={baseline}: no row has this label; there are {'; '.join(labels)}")
    sections = [_with_baseline(section, baseline) for section in sections]
    titles = dict.fromkeys(section.table.title for section in sections)
    paper = replace(paper, title="; ".join(titles) if len(titles) < 4 else paper.title, tables=tables_of(sections))
    remarks = [f"{counted(left, 'run')} left out: no other run of their protocol differs from them in what is compared"] * bool(
        left
    )
    if unvalidated:
        remarks.append(f"{counted(unvalidated, 'run')} left out: no run of their protocol has a validation accuracy")
    return Report(paper, tuple(replace(each, paper=paper) for each in sections), tuple(remarks))


def compare_treatments(runs: Iterable[Run]) -> Report:
    """A table for each set of two rows or more that differ in `TREATMENTS` and share data set, network and training."""
    runs = select(runs, ())
    known = {key.partition(".")[0] for run in runs for key in run.identity}
    keys = [key for key in TREATMENTS if key in known]
    if not keys:
        return Report(Paper("comparison", "Comparisons", "", (), (), ""), ())
    report = compare(runs, keys, command=shlex.join([*REPORT, f"compare=[{','.join(keys)}]"]))
    several = report.only(lambda section: len(section.entries) > 1)
    return replace(several, paper=replace(several.paper, title="Comparisons"))


def select(runs: Iterable[Run], conditions: Iterable[str]) -> list[Run]:
    """The runs that meet all conditions, such as dataset.name=digits, norm=zca, seed=0 or scale=smoke, in order of their start.

    Raises:
        UserError: if a condition is not key=value, no run has its key, or no run meets it.
    """
    runs = completed(runs)
    kept = sorted(runs, key=lambda run: run.summary.get("started") or "")
    for condition in conditions:
        key, equals, value = map(str.strip, condition.partition("="))
        if not equals:
            raise UserError(f"where=[{condition}]: must be a key and its value, such as where=[dataset.name=digits]")
        found = {run: _values_of(run, key) for run in kept}
        wanted = parse_value(value)
        if not any(found.values()):
            raise UserError(f"where=[{condition}]: {_no_run_has(key, runs)}")
        known = sorted({"null" if each is None else str(each) for values in found.values() for each in values})
        absent = wanted is None  # norm=null: no run without a norm has a key of it
        kept = [run for run in kept if any(each == wanted or str(each) == value for each in found[run] or [None] * absent)]
        if not kept:
            raise UserError(f"where=[{condition}]: no run matches; values of {key}: {', '.join(known)}")
    return kept


def differences(runs: Iterable[Run]) -> list[str]:
    """What differs between the runs: groups, such as norm, whose choice differs, and other keys."""
    keys = [key for key in naming.differing_keys([run.identity for run in runs]) if key != "seed"]
    chosen = {key.removesuffix(f".{naming.TARGET}"): naming.group(key) for key in keys if key.endswith(naming.TARGET)}
    names: dict[str, None] = {}
    for key in keys:
        around = [group for prefix, group in chosen.items() if within(key, (prefix,))]
        names[around[0] if around else key] = None
    return [name for name in names if not name.startswith("dataset.load")]


def meant(place: str, text: str, runs: Iterable[Run]) -> list[str]:
    """The keys of runs that contain a text as consecutive parts: norm.backward._target_ for norm, backward or norm.backward.

    Raises:
        UserError: if there are none.
    """
    keys = dict.fromkeys(key for run in runs for key in run.identity if key != "seed")
    part = text.removesuffix(f".{naming.TARGET}")  # a choice is compared with all that belongs to it
    loaded = {key: key.replace("dataset.load.", "dataset.", 1) for key in keys}  # what the loader of a data set repeats
    found = [key for key in keys if f".{part}." in f".{key}." or f".{part}." in f".{loaded[key]}."]
    if not found:
        raise UserError(f"{place}: {_no_run_has(part, runs)}")
    return found


def _no_run_has(key: str, runs: Iterable[Run]) -> str:
    same = [(each, value) for each, value in AS_BEFORE.items() if f".{each}".endswith(f".{key}")]
    reason = f"no run has another {same[0][0]} than {json.dumps(same[0][1])}" if same else "no run has this key"
    return f"{reason}; the runs differ in {', '.join(differences(runs)) or 'nothing but the seed'}"


def choose_metric(runs: Iterable[Run], name: str | None) -> Metric:
    """The metric with a name; None: the test accuracy, or else the first metric that was measured.

    Raises:
        UserError: if there is no such metric, or no run has measured it.
    """
    known = [each for each, metric in METRICS.items() if any(metric.column in run.metrics for run in runs)]
    if name is None:
        return METRICS["test_accuracy" if "test_accuracy" in known or not known else known[0]]
    if name not in known:
        reason = "no run has measured it" if name in METRICS else "there is no such metric"
        raise UserError(f"metric={name}: {reason}; there are {', '.join(known) or 'no measured ones'}")
    return METRICS[name]


def _values_of(run: Run, key: str) -> list[object]:
    """The values of a run for the key of a condition; for a group, the name of its option."""
    own = {"scale": run.scale, "state": run.state, "paper": run.paper}
    if key in own:
        return [own[key]]
    leaves = [each for each in run.identity if f".{each}".endswith(f".{key}")]
    choices = [each for each in run.identity if f".{each}".endswith(f".{key}.{naming.TARGET}")]
    return [run.identity[each] for each in leaves] + [naming.choice(each, run.identity[each]) for each in choices]


def _protocol(run: Run, compared: tuple[str, ...], tuned: tuple[str, ...]) -> object:
    """The values that runs of one table share."""
    if compared:
        apart = {*compared, *tuned, "seed"}
        return hashable({key: value for key, value in run.identity.items() if key not in apart})
    study = run.identity.get("study._target_")
    return hashable([study, run.scale, *(run.identity.get(key) for key in DATA)])


def _rows(runs: Sequence[Run], compared: tuple[str, ...], tuned: tuple[str, ...]) -> dict[object, list[Run]]:
    """The runs of a table by their compared values."""
    keys = compared or naming.differing_keys([run.identity for run in runs])
    return _by_values(runs, [key for key in keys if key not in ("seed", *tuned)])


def _by_values(runs: Iterable[Run], keys: Sequence[str]) -> dict[object, list[Run]]:
    groups = defaultdict(list)
    for run in runs:
        groups[hashable({key: run.identity[key] for key in keys if key in run.identity})].append(run)
    return groups


def _validated(run: Run) -> bool:
    return not np.isnan(METRICS[VALIDATION].of(run.metrics))


def _choose(runs: Sequence[Run], tuned: tuple[str, ...]) -> tuple[tuple[Run, ...], Choice | None]:
    """The runs of a row, or with tuned keys those of the best value, by mean validation accuracy over the common seeds."""
    if not tuned:
        return tuple(runs), None
    candidates = list(_by_values(runs, tuned).values())
    validated = [each for each in candidates if _validation(each).count()]
    whole = [each for each in validated if not any(run.state == "diverged" for run in each)]
    usable = whole or validated or candidates
    validations = pd.DataFrame([_validation(each) for each in usable], index=range(len(usable)))
    common = validations.dropna(axis="columns")
    best = usable[(validations if common.empty else common).mean(axis="columns").fillna(-np.inf).argmax()]
    ended = [each for each in candidates if any(run.state in ("finished", "diverged") for run in each)]

    def value(candidate: Sequence[Run]) -> str:
        return naming.label(candidate[0].identity, [key for key in tuned if key in candidate[0].identity])

    seeds = validations.count(axis="columns")
    fewer = [
        f"{value(each)} has {count} of {counted(validations.shape[1], 'seed')}"
        for each, count in zip(usable, seeds, strict=True)
        if count < validations.shape[1]
    ]
    over = f"the values are compared over {counted(common.shape[1], 'common seed')}"
    remark = f"{', '.join(fewer)}; {'there is no common seed' if common.empty else over}" if fewer else ""
    return tuple(best), Choice(value(best), len(ended), _validation(best).mean(), tuple(runs), remark)


def _validation(runs: Iterable[Run]) -> pd.Series:
    """The validation accuracy of finished runs by seed."""
    return by_seed((run.seed, METRICS[VALIDATION].of(run.metrics)) for run in runs if run.state == "finished")


def _section(
    paper: Paper, groups: Sequence[Sequence[Run]], metric: Metric, compared: tuple[str, ...], tuned: tuple[str, ...]
) -> Section:
    """A table with a row for each group of runs. Rows of the same line in the figure are next to each other."""
    apart = {"seed", *tuned}
    identities = [{key: value for key, value in runs[0].identity.items() if key not in apart} for runs in groups]
    differing = naming.differing_keys(identities)
    values = [{key: each[key] for key in differing if key in each} for each in identities]
    keys = naming.distinguishing(identities) or naming.describing(identities[0], compared)
    along = naming.axis_key(identities, keys)
    rows: list[Row] = []
    for own, each in zip(identities, values, strict=True):
        point: dict[str, Any] = {}
        if along in own:
            others = [key for key in keys if key != along]
            series = naming.label(own, others) if others else naming.symbol(along)
            point = {"series": series, "at": float(own[along])}
        label = naming.label(own, keys)
        again = sum(row.label.partition(" (")[0] == label for row in rows)
        chosen = {key: None for key in tuned}
        rows.append(Row(f"{label} ({again + 1})" if again else label, (), each | chosen, {}, **point))
    protocol = without_as_before({key: value for key, value in identities[0].items() if key not in differing})
    axis = (
        Axis(naming.axis_label(along), naming.is_logarithmic(row.at for row in rows if row.series and row.at is not None))
        if along
        else None
    )
    data = protocol.get("dataset.name") or naming.choice("study._target_", protocol.get("study._target_", ""))
    words = ", ".join(dict.fromkeys(map(naming.words, keys))) if len(rows) > 1 else ""
    title = " on ".join(filter(None, (f"{words[:1].upper()}{words[1:]}", data))) or "Runs"
    table = Table(file_name(data or "comparison"), title, metric, "", tuple(rows), protocol, axis, baseline=rows[0].label)
    entries = []
    for row, members in zip(rows, groups, strict=True):
        runs, choice = _choose(members, tuned)
        entries.append(Entry(row, tuple(sorted(runs, key=lambda run: run.seed)), choice))
    lines = list(dict.fromkeys(row.series for row in rows))
    entries.sort(key=lambda entry: lines.index(entry.row.series))
    return Section(paper, table, protocol, tuple(entries))


def _named(sections: list[Section]) -> list[Section]:
    """Adds a hash of the protocol to names of tables that are equal on a file system without upper case."""
    names, renamed = [section.table.name.lower() for section in sections], []
    for section in sections:
        own = digest(section.protocol | {"scale": section.runs[0].scale})
        name = section.table.name
        unique = name if names.count(name.lower()) == 1 else f"{name}-{own}"
        renamed.append(replace(section, table=replace(section.table, name=unique)))
    return renamed


def _with_baseline(section: Section, baseline: str | None) -> Section:
    """The section with differences to the row with this label, moved to the top, or else to its first row with a result."""
    entries = sorted(section.entries, key=lambda entry: entry.row.label != baseline)
    labels = [entry.row.label for entry in entries]
    with_result = [entry.row.label for entry in entries if section.values(entry, section.table.metric).count()]
    reference = baseline if baseline in labels else (with_result or labels)[0]
    table = replace(section.table, rows=tuple(entry.row for entry in entries), baseline=reference)
    return replace(section, table=table, entries=tuple(entries))


def report_command(runs: Sequence[Run], place: str) -> str:
    """The command that makes a page of the differences between these runs in a folder.

    Its baseline is that of the runs in this order, because other runs in the folder may have started earlier.
    """
    runs = completed(runs)
    tuned = _tuned(runs)
    keys = [name for name in differences(runs) if not name.startswith("dataset.") and name not in tuned]
    compared, best_over = (keys, tuned) if keys else (tuned, [])
    shared: dict[str, set[Any]] = {
        "dataset.name": {run.identity.get("dataset.name") for run in runs},
        "scale": {run.scale for run in runs},
    }
    where = [in_a_list(f"{key}={values.pop()}") for key, values in shared.items() if len(values) == 1 and None not in values]
    options = [f"compare=[{','.join(compared)}]" if compared else "compare=auto"]
    options += [f"best_over=[{','.join(best_over)}]"] * bool(best_over)
    options += [f"runs={place}", f"where=[{','.join(where)}]"]
    sections = compare(runs, compared, best_over=best_over).sections
    if len(sections) == 1 and len(sections[0].entries) > 1:
        options.append(f"baseline={sections[0].table.baseline}")
    if place != RUNS:
        options.append(f"out={place.rstrip('/')}_comparison")  # beside the runs, so that no other one is replaced
    return shlex.join([*REPORT, *options])


def in_a_list(text: str) -> str:
    """A text as an item of a list on the command line, in quotes if it needs them."""
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}" if re.search(r"""[][,'"]""", text) else text


def _tuned(runs: Sequence[Run]) -> list[str]:
    """The numbers of optimiser and schedule that differ between runs of one method; empty without validation images."""
    if not any(_validated(run) for run in runs):
        return []
    differing = naming.differing_keys([run.identity for run in runs])
    numbers = [key for key in differing if within(key, ("optimizer", "schedule")) and not key.endswith(naming.TARGET)]
    methods = _by_values(runs, [key for key in differing if key not in ("seed", *numbers)]).values()
    return [key for key in numbers if any(len({hashable(run.identity.get(key)) for run in own}) > 1 for own in methods)]
