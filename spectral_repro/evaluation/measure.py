"""One evaluation, from a checkpoint to evaluation.json and its figure."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from spectral_repro.errors import UserError, in_one_line
from spectral_repro.evaluation.figure import write_figure
from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.record import Record, check_entry
from spectral_repro.evaluation.subjects import Subject
from spectral_repro.evaluation.trained import Trained, restore
from spectral_repro.training.environment import describe_device, git_state, versions


def measure(
    subject: Subject,
    measurements: Mapping[str, Measurement],
    device: torch.device,
    batch_size: int | None = None,
    dataset: dict[str, Any] | None = None,
    force: bool = False,
) -> list[UserError]:
    """Measures what evaluation.json lacks, or everything with ``force``, and prints it; returns the errors of failed
    measurements. A measurement with other settings is replaced only with ``force``.

    Raises:
        UserError: if the network or its data cannot be loaded.
    """
    record, failures, missing = Record(subject.record), [], []
    subject_settings = subject.settings | _place(dataset or {})
    settings = {name: subject_settings | measurement.settings for name, measurement in measurements.items()}
    for name in measurements:
        if not force and record.holds(name, settings[name]):
            print(f"{subject.name}: {name} measured already; force=true measures it again")
        elif not force and (keys := record.differs(name, settings[name])):
            failures.append(
                UserError(f"{subject.name}: {name}: measured with another {', '.join(keys)}; force=true replaces it")
            )
        else:
            missing.append(name)
    if not missing:
        return failures
    trained = restore(subject.checkpoint, device, batch_size, dataset, subject.weights)
    for name in missing:
        try:
            entry = _measured(measurements[name], trained) | {"settings": settings[name]}
            check_entry(name, entry)
        except Exception as error:  # the other measurements do not depend on this one
            failures.append(UserError(f"{subject.name}: {name}: {in_one_line(error)}"))
            continue
        record.add(name, entry)
        write_figure(record)
        print(f"{subject.name}: {name}, {entry['conditions']}: {_numbers(entry)}", flush=True)
    return failures


def _measured(measurement: Measurement, trained: Trained) -> dict[str, Any]:
    """The result of a measurement, with its environment."""
    packages, started = versions(*measurement.packages), time.monotonic()
    found = measurement(trained)
    environment = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
        "device": describe_device(trained.device),
        "batch_size": trained.config.dataset.batch_size,
        "versions": packages,
        "git": git_state(),
        "best_by": f"{trained.images.chosen_by}_accuracy",
        "notes": list(trained.images.notes),
    }
    return found | {"environment": environment}


def _place(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The folder of the images, if it was given: another folder holds other images."""
    return {"root": str(Path(dataset["root"]).expanduser().resolve())} if "root" in dataset else {}


def _numbers(entry: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in entry.items() if isinstance(value, float))
