"""Records of a training: checkpoints, metrics, logs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from spectral_repro.training.checkpoint import load_checkpoint, save_checkpoint
from spectral_repro.training.files import write_metrics
from spectral_repro.training.loggers import Loggers
from spectral_repro.training.run_folder import RunFolder
from spectral_repro.training.state import TrainingState

PICTURES = 32  # of the first batch, for the loggers


class Recorder:
    """Callbacks of a `Trainer`; this base class keeps nothing.

    Attributes:
        name: of the training in the progress bar.
        spectra: the file for the singular values of every epoch; None: they are not written.

    Example:
        >>> class Printing(Recorder):
        ...     def finish_epoch(self, state, best, is_best):
        ...         print(state.rows[-1]["epoch"])
        >>> network, data = nn.Linear(4, 2), (torch.randn(8, 4), torch.arange(8) % 2)
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        >>> rows = Trainer(network, optimizer, data, settings=TrainerSettings(epochs=2), recorder=Printing()).train()
        1
        ...
        2
        ...
    """

    name = "training"
    spectra: Path | None = None

    def restore(self, state: TrainingState) -> bool:
        """Loads the state at which an earlier attempt stopped; False if there is none."""
        return False

    def start(self, state: TrainingState, best: dict[str, float] | None) -> None:
        """Before the first step, or the first one after `restore`."""

    def first_batch(self, images: Tensor) -> None:
        """With the first batch of a training."""

    def log(self, scalars: dict[str, float], step: int) -> None:
        """At every reading of the loss."""

    def log_histograms(self, values: dict[str, Tensor], step: int) -> None:
        """After every epoch."""

    def save(self, state: TrainingState) -> None:
        """Within an epoch, when a checkpoint is due."""

    def finish_epoch(self, state: TrainingState, best: dict[str, float] | None, is_best: bool) -> None:
        """After every epoch; its row is the last of ``state.rows``, ``best`` that of the best epoch so far."""

    def finish(self) -> None:
        """After the last epoch."""


class RunRecorder(Recorder):
    """Writes checkpoints, metrics.csv and summary.json to the folder of a run, and calls the loggers.

    Args:
        best_by: the column by which the best epoch is chosen.
        train_images: number of training images.
        class_names: by number, for the checkpoints.
        as_pictures: turns images of a batch into images in [0, 1].
    """

    def __init__(
        self,
        run: RunFolder,
        config: DictConfig,
        loggers: Loggers,
        best_by: str,
        train_images: int,
        class_names: Sequence[str],
        as_pictures: Callable[[Tensor], Tensor],
    ):
        self.run, self.config, self.loggers = run, config, loggers
        self.best_by, self.train_images = best_by, train_images
        self.class_names, self.as_pictures = class_names, as_pictures
        self.name, self.spectra = run.folder.name, run.folder / "spectra.csv"

    def restore(self, state: TrainingState) -> bool:
        if not self.run.checkpoints:
            return False
        load_checkpoint(self.run.checkpoints, state)
        return True

    def start(self, state: TrainingState, best: dict[str, float] | None) -> None:
        if state.rows:
            self._write(state, best)
        self.run.update(total_steps=state.steps)
        self.loggers.open(self.run, self.config, state.step)

    def first_batch(self, images: Tensor) -> None:
        if images.shape[1] in (1, 3):
            self.loggers.log_images("train/augmented_images", self.as_pictures(images[:PICTURES]), 0)

    def log(self, scalars: dict[str, float], step: int) -> None:
        self.loggers.log(scalars, step)

    def log_histograms(self, values: dict[str, Tensor], step: int) -> None:
        self.loggers.log_histograms(values, step)

    def save(self, state: TrainingState) -> None:
        save_checkpoint(self.run.checkpoint, state, self.config, self.class_names, keep=self.run.previous)
        self.run.update(steps=state.step)

    def finish_epoch(self, state: TrainingState, best: dict[str, float] | None, is_best: bool) -> None:
        if is_best:
            save_checkpoint(self.run.checkpoint.with_name("best.pt"), state, self.config, self.class_names)
        save_checkpoint(self.run.checkpoint, state, self.config, self.class_names, keep=self.run.previous)
        self._write(state, best)

    def finish(self) -> None:
        self.run.update(state="finished")

    def _write(self, state: TrainingState, best: dict[str, float] | None) -> None:
        """Updates metrics.csv and summary.json to the state."""
        write_metrics(self.run.folder / "metrics.csv", state.rows)
        final = state.rows[-1]
        self.run.update(
            epochs=final["epoch"],
            steps=state.step,
            final=final,
            best=best,
            best_by=self.best_by,
            images_per_second=len(state.rows) * self.train_images / final["seconds"],
        )
