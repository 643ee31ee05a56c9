"""One run, from its configuration to its end."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from spectral_repro.configuration.identity import digest, identity, pinned
from spectral_repro.configuration.values import THREADS
from spectral_repro.data.images import ImageData
from spectral_repro.errors import UserError, first_line
from spectral_repro.layers.replicas import replicas
from spectral_repro.optim.mixed import MixedOptimizer
from spectral_repro.training.autotune import fastest_layout, with_layout
from spectral_repro.training.build import (
    build_loggers,
    build_model,
    build_optimizer,
    build_study,
    build_trainer,
    build_weight_control,
    check_images_fit,
    check_smallest_batch,
    compile_network,
    initialise,
    load_images,
    place,
)
from spectral_repro.training.divergence import Diverged
from spectral_repro.training.environment import (
    choose_device,
    describe_device,
    describe_machine,
    fastest_precision,
    git_state,
    keep_freed,
    versions,
)
from spectral_repro.training.extension import check_extension
from spectral_repro.training.faults import again, explain, ignoring_child_exits
from spectral_repro.training.loggers import Loggers
from spectral_repro.training.processes import first_over_ranks, join, of_all_ranks
from spectral_repro.training.run_folder import RunFolder, folder_of, summary_of, with_other_images
from spectral_repro.training.state import seed_all
from spectral_repro.training.study import image_batches, measure

TORCH_THREADS = torch.get_num_threads()


def execute(config: DictConfig, name: str, overrides: list[str], job: int = 0) -> dict[str, Any]:
    """Trains or measures what the configuration describes. A training continues where an earlier attempt stopped; nothing is
    done if it is over. ``job`` is its number in a sweep. Returns the content of summary.json.

    Raises:
        UserError: for objects that cannot be built, data that cannot be read, a run that another process works on or that began
            with another number of processes, processes started together with different settings, and faults of the machine
            (`explain`).
    """
    join()
    keep_freed()
    device = choose_device(config.device, job)
    config = _with_precision(pinned(config), device)
    if len({*of_all_ranks(digest(identity(config)))}) > 1:
        raise UserError(
            "the processes that were started together have different settings: give all the same to train one network, or "
            "start each run by itself (srun --ntasks=1)"
        )
    with RunFolder(config, name) as run:
        if earlier := with_other_images(run, config):
            folder, root = earlier
            print(f"{folder}: began with other images in {root}; this is a new run", flush=True)
        if run.over:
            print(f"{run.folder}: {run.summary['state']} already; force=true runs it again")
        elif fault := _attempt(config, run, overrides, device):
            raise UserError(fault)  # raised here, so that it references no network
    return run.summary


def _with_precision(config: DictConfig, device: torch.device) -> DictConfig:
    """Replaces precision=auto by a precision, because the precision is part of the identity of a run.

    A run that began with another precision, on another processor, keeps it. All processes of a run use that of the first.
    """
    if config.precision != "auto":
        return config
    fastest = fastest_precision(device)
    other = "float32" if fastest == "bfloat16" else "bfloat16"
    begun = [each for each in (fastest, other) if folder_of(_with(config, each))]
    return _with(config, first_over_ranks((begun or [fastest])[0]))


def _with(config: DictConfig, precision: str) -> DictConfig:
    config = config.copy()
    config.precision = precision
    return config


def _attempt(config: DictConfig, run: RunFolder, overrides: list[str], device: torch.device) -> str | None:
    """Returns what went wrong in one line; None if nothing did."""
    try:
        processes = run.summary.get("processes", 1) if run.checkpoints else replicas()
        if processes != replicas():
            raise UserError(f"{run.folder} began with {processes} processes; start it with as many, or use force=true")
        if "study" in config and processes > 1:
            raise UserError("study: measured by one process; start it without torchrun, or by srun --ntasks=1")
        before = run.summary.get("threads")
        threads: Any = before if THREADS.holds(before) else config.trainer.threads or TORCH_THREADS
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(config.trainer.matmul_precision)
        torch.backends.cudnn.benchmark = config.trainer.cudnn_benchmark
        if config.trainer.compile or config.trainer.autotune:
            torch.compiler.reset()  # graphs of earlier jobs of a sweep count towards torch's limit
        tuned = _tuned(config, run, device)
        seed_all(config.seed)
        loggers = build_loggers(config)
        built = with_layout(config, tuned["channels_last"], tuned["compile"]) if tuned else config
        task = _study(config, run, device, loggers) if "study" in config else _training(config, built, run, device, loggers)
        with closing(loggers), _ending(config, run):
            run.open(config, overrides)
            run.update(
                processes=processes,
                threads=threads,
                device=describe_device(device),
                machine=describe_machine(device),
                versions=versions(*loggers.packages),
                git=git_state(),
                **({"autotune": tuned} if tuned else {}),
                **_about(task.images),
            )
            print(f"{run.folder}: {task.words} on {run.summary['device']}", flush=True)
            task.start()
    except Exception as error:
        fault = explain(error, config)
        if fault is None:
            raise
        return fault if isinstance(error, UserError) else f"{run.folder}: {fault}"
    return None


@contextmanager
def _ending(config: DictConfig, run: RunFolder) -> Iterator[None]:
    """Writes into summary.json how an unfinished run ended, if the file can still be written."""
    try:
        yield
    except Diverged as failure:
        run.update(state="diverged", failure=vars(failure))
        print(f"{run.folder}: {failure}")
    except KeyboardInterrupt:
        run.update(state="interrupted")
        print(f"{run.folder}: interrupted; {again(config)}")
        raise
    except Exception as error:
        with suppress(OSError), ignoring_child_exits():
            run.update(state="failed", failure={"error": explain(error, config) or first_line(error)})
        raise


@dataclass(frozen=True)
class Task:
    """What a run does, a description of it, and the images that it reads."""

    start: Callable[[], object]
    words: str
    images: ImageData | None


def _tuned(config: DictConfig, run: RunFolder, device: torch.device) -> dict[str, Any]:
    """The `fastest_layout` of a run with trainer.autotune, measured at its first start; empty for other runs."""
    if "study" in config or not config.trainer.autotune:
        return {}
    known: dict[str, Any] = run.summary.get("autotune", {})
    if not known and config.trainer.extend:
        known = summary_of(Path(config.trainer.extend).expanduser()).get("autotune", {})
    if {"channels_last", "compile"} <= known.keys():
        return known
    tuned = fastest_layout(config, device)
    times = ", ".join(f"{name} {time:.3g} ms" for name, time in tuned["milliseconds"].items())
    failure = f"; not compiled: {tuned['not_compiled']}" if "not_compiled" in tuned else ""
    print(f"{run.folder}: the fastest is taken of {times}{failure}", flush=True)
    return tuned


def _training(asked: DictConfig, config: DictConfig, run: RunFolder, device: torch.device, loggers: Loggers) -> Task:
    """``asked`` differs from ``config`` in what trainer.autotune chose."""
    model = place(config, build_model(config), device)
    check_images_fit(config, model, device)
    optimizer, weights = build_optimizer(config, model), build_weight_control(config, model)
    images = load_images(config)
    check_smallest_batch(config, model, images, device)
    if "init" in config and not run.checkpoints:
        initialise(config, model, images.train, device)
        optimizer = build_optimizer(config, model)  # again, because it may put the new weights on the sphere
    if isinstance(optimizer, MixedOptimizer):
        print(optimizer.table(), flush=True)
    trainer = build_trainer(config, model, optimizer, weights, images, device, (run, loggers))
    compile_network(config, model)
    words = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    if not config.trainer.extend or run.checkpoints:
        return Task(trainer.train, words, images)
    earlier = Path(config.trainer.extend).expanduser()
    check_extension(earlier, asked, trainer)

    def extend() -> None:
        run.adopt(earlier)
        trainer.train()

    return Task(extend, words, images)


def _study(config: DictConfig, run: RunFolder, device: torch.device, loggers: Loggers) -> Task:
    study = build_study(config)
    images = load_images(config) if "batches" in config.study else None
    batches = [image_batches(config, images.train, device)] if images else []
    return Task(partial(measure, config, run, study, batches, device, loggers), f"study {type(study).__name__}", images)


def _about(images: ImageData | None) -> dict[str, Any]:
    if images is None:
        return {}
    splits = {"train": images.train, "validation": images.validation, "test": images.test}
    counts = {name: len(split.labels) for name, split in splits.items() if split}
    return {"images": counts, "notes": list(images.notes)}
