"""Loggers of a run, and a progress bar in a terminal."""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from threading import RLock
from typing import Annotated, Any, Literal, Protocol

from annotated_types import Predicate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from spectral_repro.configuration.identity import identity
from spectral_repro.errors import UserError, first_line
from spectral_repro.training.processes import is_main_process
from spectral_repro.training.run_folder import RunFolder

RESULTS = (
    "test/",
    "validation/",
    "ema_test/",
    "ema_validation/",
    "train/loss",
    "train/accuracy",
    "study/",
)  # scalars that measure the quality of a run


class Logger(Protocol):
    """Shows the progress of a run, such as TensorBoard. Called only by the main process.

    Example:
        >>> class Printed:
        ...     def open(self, run, config, step): ...
        ...     def log(self, scalars, step):
        ...         print(step, scalars)
        ...     def log_histograms(self, values, step): ...
        ...     def log_images(self, name, images, step): ...
        ...     def close(self): ...
        >>> Printed().log({"train/loss": 2.3}, step=50)
        50 {'train/loss': 2.3}
    """

    def open(self, run: RunFolder, config: DictConfig, step: int) -> None:
        """Starts or continues the log of a run that has done ``step`` steps."""

    def log(self, scalars: dict[str, float], step: int) -> None: ...

    def log_histograms(self, values: dict[str, Tensor], step: int) -> None: ...

    def log_images(self, name: str, images: Tensor, step: int) -> None:
        """Images (N, C, H, W) with values in [0, 1], C = 1 or 3."""

    def close(self) -> None:
        """Ends the log; ``run.summary`` has the final values."""


class Loggers:
    """Several loggers as one; `close` closes those that were opened."""

    def __init__(self, loggers: list[Logger]):
        self.loggers, self.opened = loggers, ExitStack()

    def open(self, run: RunFolder, config: DictConfig, step: int) -> None:
        for logger in self.loggers:
            logger.open(run, config, step)
            self.opened.callback(logger.close)

    def log(self, scalars: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log(scalars, step)

    def log_histograms(self, values: dict[str, Tensor], step: int) -> None:
        for logger in self.loggers:
            logger.log_histograms(values, step)

    def log_images(self, name: str, images: Tensor, step: int) -> None:
        for logger in self.loggers:
            logger.log_images(name, images, step)

    def close(self) -> None:
        self.opened.close()

    @property
    def packages(self) -> list[str]:
        """The packages behind the loggers of this project, for their versions."""
        return [PACKAGES[type(logger)] for logger in self.loggers if type(logger) in PACKAGES]


class TensorBoard:
    """Event files in the run's folder; a resumed run replaces the events after its step.

    They begin with the configuration as text, and end with the values that determine the result as hyperparameters, together
    with the metrics of the run.
    """

    def open(self, run: RunFolder, config: DictConfig, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if any(run.folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(1)  # files are read in the order of their names, which contain the second
        self.writer = SummaryWriter(str(run.folder), purge_step=step + 1)
        self.values = identity(config)
        self.metrics: set[str] = set()
        if step == 0:
            self.writer.add_text("config", f"```yaml\n{OmegaConf.to_yaml(config, resolve=True)}```", step)

    def log(self, scalars: dict[str, float], step: int) -> None:
        self.metrics |= {name for name in scalars if name.startswith(RESULTS)}
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def log_histograms(self, values: dict[str, Tensor], step: int) -> None:
        for name, each in values.items():
            self.writer.add_histogram(name, each, step)

    def log_images(self, name: str, images: Tensor, step: int) -> None:
        self.writer.add_images(name, images, step)

    def close(self) -> None:
        from torch.utils.tensorboard.summary import hparams

        written = {key: json.dumps(value) for key, value in self.values.items() if value is None or isinstance(value, list)}
        metrics = dict.fromkeys(self.metrics, 0.0)  # the plugin reads their values from the log
        events = self.writer._get_file_writer()
        for summary in hparams(self.values | written, metrics):
            events.add_summary(summary)
        self.writer.close()


def is_project(value: str) -> bool:
    r"""a string of at most 128 characters, none of them / \ # ? % :"""
    return 0 < len(value) <= 128 and not set(value) & set(r"/\#?%:")


class WandB:
    """A Weights & Biases run with the id of this run and files in its folder; a resumed run continues it.

    Raises:
        UserError: if the package is missing, or the server cannot be reached or does not know the user.
    """

    def __init__(
        self,
        project: Annotated[str, Predicate(is_project)],
        entity: str | None,
        group: str | None,
        mode: Literal["online", "offline", "disabled"],
    ):
        try:
            import wandb
        except ImportError as error:
            raise UserError("logger=wandb: the package is not installed; pip install 'spectral-repro[wandb]'") from error
        self.wandb: Any = wandb
        self.mode, self.place = mode, {"project": project, "entity": entity, "group": group}
        try:
            if mode == "online" and not wandb.login(verify=True):
                raise wandb.Error("not logged in")
        except wandb.Error as error:
            raise self._unreachable(error) from error

    def open(self, run: RunFolder, config: DictConfig, step: int) -> None:
        self.run = run
        try:
            self.twin = self.wandb.init(
                **self.place,
                mode=self.mode,
                id=run.id,
                resume="allow" if step else None,
                name=run.folder.name,
                dir=run.folder,
                config=OmegaConf.to_container(config, resolve=True),
                settings=self.wandb.Settings(console="off", silent=True),
            )
        except self.wandb.Error as error:
            raise self._unreachable(error) from error
        if self.mode == "online":
            print(f"{run.folder}: {self.twin.url}", flush=True)

    def log(self, scalars: dict[str, float], step: int) -> None:
        self._log(scalars, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if step >= self.twin.starting_step:  # steps after the checkpoint were logged before
            self.twin.log(values, step)

    def log_histograms(self, values: dict[str, Tensor], step: int) -> None:
        self._log({name: self.wandb.Histogram(each.numpy()) for name, each in values.items()}, step)

    def log_images(self, name: str, images: Tensor, step: int) -> None:
        self._log({name: [self.wandb.Image(each.movedim(0, -1).numpy()) for each in images]}, step)

    def close(self) -> None:
        self.twin.summary.update({key: self.run.summary.get(key) for key in ("state", "failure", "final", "best")})
        self.twin.finish(exit_code=0 if self.run.over else 1)

    def _unreachable(self, error: Exception) -> UserError:
        return UserError(
            f"logger.wandb.mode={self.mode}: {first_line(error).rstrip('.')}; set WANDB_API_KEY, or logger.wandb.mode=offline"
        )


PACKAGES: dict[type, str] = {TensorBoard: "tensorboard", WandB: "wandb"}


class Bar(tqdm):
    """A bar whose lock belongs to its process. tqdm shares its lock with forked processes, and one that is killed keeps it."""

    monitor_interval = 0  # no thread, which could hold the lock during a fork


Bar.set_lock(RLock())


class Progress:
    """Progress over the steps of a run.

    Throughput and remaining time are those of this process: steps before an interruption do not count.
    """

    def __init__(self, name: str, steps: int, done: int, epochs: int):
        self.epochs, self.steps, self.done = epochs, steps, done
        self.started = time.monotonic()
        self.bar = Bar(
            total=steps,
            initial=done,
            desc=name,
            unit="step",
            disable=not (is_main_process() and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        self.bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.1f} %, {images_per_second:.0f} images/s", refresh=False)
        self.bar.update(step - self.bar.n)

    def epoch(self, step: int, row: dict[str, float]) -> None:
        left = (time.monotonic() - self.started) / max(step - self.done, 1) * (self.steps - step)
        splits = [f"train loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.1f} %"] + [
            f"{split} loss {row[f'{split}_loss']:.4f}  accuracy {row[f'{split}_accuracy']:.2f} %"
            for split in ("validation", "test")
            if f"{split}_loss" in row
        ]
        speed = f"{row['images_per_second']:.0f} images/s  {clock(left)} left"
        self.bar.write("  ".join([f"epoch {row['epoch']}/{self.epochs}", *splits, speed]))
        sys.stdout.flush()

    def close(self) -> None:
        self.bar.close()


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
