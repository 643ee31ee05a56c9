"""The sweeper of the commands. Hydra only builds sweepers from this namespace package, in which it finds them by itself."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.groups import spelled_for_hydra
from spectral_repro.errors import UserError, first_line, same_command


class ProductSweeper(Sweeper):
    """Runs every combination of the values, as Hydra's own sweeper does, all jobs even if some fail; then prints their table.

    Args:
        max_batch_size: number of jobs passed to the launcher at a time; None: all.
        params: values of keys that are not on the command line.
    """

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None):
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """
        Raises:
            UserError: at the end, if any job failed; if the launcher is not installed, or lost a job.
        """
        combinations = self._combinations([*(f"{key}={values}" for key, values in self.params.items()), *arguments])
        combinations = [self._with_precision(combination) for combination in combinations]
        folder = Path(self.config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
        except OSError as error:
            raise UserError(
                f"{folder}: multirun.yaml cannot be written there ({error.strerror}); name another results_dir"
            ) from error
        size = self.max_batch_size or len(combinations)
        again = f"{same_command(self.config.get('force'))} again runs what is not finished"
        jobs = []
        for start in range(0, len(combinations), size):
            try:
                jobs.extend(self.launcher.launch(combinations[start : start + size], initial_job_idx=start))
            except RuntimeError as error:
                raise UserError(f"{first_line(error)}: no result; {again}") from error
        from spectral_repro.reporting.closing import closing_table  # pandas, which the jobs do not need

        print(closing_table(jobs), flush=True)
        failed = sum(job.status == JobStatus.FAILED for job in jobs)
        if failed:
            raise UserError(f"{failed} of {len(jobs)} jobs failed; {again}")
        return jobs

    def _combinations(self, arguments: Sequence[str]) -> list[list[str]]:
        values = {}
        for override in OverridesParser.create(self.hydra_context.config_loader).parse_overrides(list(arguments)):
            key = override.get_key_element()
            if not override.is_sweep_override():
                values[key] = [override.get_value_element_as_str()]
            elif override.is_discrete_sweep():
                values[key] = list(override.sweep_string_iterator())
            else:
                raise UserError(f"{override.input_line}: name the values of {key}, such as {key}=1,2")
        pairs = [[f"{key}={value}" for value in each] for key, each in values.items()]
        return [spelled_for_hydra(combination) for combination in product(*pairs)]

    def _with_precision(self, combination: list[str]) -> list[str]:
        """The combination, with a precision if it composes to precision=auto: runs of a table share it, on all machines.

        Raises:
            Hydra's exceptions for a combination that cannot be composed.
        """
        config = self.hydra_context.config_loader.load_sweep_config(self.config, combination)
        if config.get("precision") != "auto":
            return combination
        from spectral_repro.training.environment import choose_device, fastest_precision

        kept = [override for override in combination if override != "precision=auto"]
        return [*kept, f"precision={fastest_precision(choose_device(config.device))}"]
