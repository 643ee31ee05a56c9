"""What Hydra does not do of itself for a sweep."""

import sys
from collections.abc import Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.utils import get_method
from omegaconf import DictConfig

from spectral_repro.configuration.groups import spelled_for_hydra
from spectral_repro.errors import UserError, first_line

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class NotEmpty(Callback):
    """Ends a sweep with an error where a key has no values, such as glob(...) that matches nothing: it would run no job."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        texts = [f"{key}={values}" for key, values in (config.hydra.sweeper.params or {}).items()]
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides([*texts, *config.hydra.overrides.task])
        for key, override in {override.key_or_group: override for override in overrides}.items():
            if override.is_sweep_override() and next(override.sweep_string_iterator(), None) is None:
                print(f"{override.input_line}: no {key} matches, so there is nothing to run", file=sys.stderr)
                raise SystemExit(1)  # Hydra turns the exceptions of a callback into warnings


class SamePrecision(Callback):
    """Settles precision=auto once for all jobs of a sweep: the runs of a table share one precision, on whatever machines."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        task = config.hydra.overrides.task
        swept = any(override.startswith("precision=") and override != "precision=auto" for override in task)
        if config.precision == "auto" and not swept and "precision" not in (config.hydra.sweeper.params or {}):
            from spectral_repro.training.environment import choose_device, fastest_precision

            task.append(f"precision={fastest_precision(choose_device(config.device))}")


class Closing(Callback):
    """Prints a text about all jobs of a sweep when they have ended, also where some of them failed.

    Args:
        text: the function that makes it, by its dotted name, so that what it needs is imported only then.
    """

    def __init__(self, text: str):
        self.text = text

    def on_sweep_end(self, jobs: Sequence[JobReturn]) -> None:
        print(get_method(self.text)(jobs), flush=True)


class Sweeper(Plugins.instance().class_name_to_class[BASIC]):
    """Hydra's own sweeper, but all jobs run whatever becomes of others, and `Closing` has the last word.

    Raises:
        UserError: at the end, if any job failed; where a launcher is not at home, or has lost a job.
    """

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        return [spelled_for_hydra(overrides) for overrides in super().get_job_batch()]

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        jobs, launch = [], self.launcher.launch

        def keep_results(batch: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            try:
                jobs.extend(launch(batch, initial_job_idx=initial_job_idx))
            except RuntimeError as error:
                raise UserError(f"{first_line(error)}: no result; the same command again runs what is not finished") from error
            return ()

        self.launcher.launch = keep_results
        super().sweep(arguments)
        for callback in self.hydra_context.callbacks.callbacks:
            if isinstance(callback, Closing):
                callback.on_sweep_end(jobs)
        failed = sum(job.status == JobStatus.FAILED for job in jobs)
        if failed:
            raise UserError(f"{failed} of {len(jobs)} jobs failed; the same command again runs what is not finished")
        return jobs


def metric(final: dict[str, float]) -> str:
    """The test accuracy in the last row of metrics.csv, of a study the first value there."""
    if "test_accuracy" in final:
        return f"test accuracy {final['test_accuracy']:.2f} %"
    return "".join(f"{name} {value:.4g}" for name, value in list(final.items())[1:2])
