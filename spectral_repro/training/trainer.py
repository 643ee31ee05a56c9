"""The trainer."""

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spectral_repro.configuration.settings import TrainerSettings
from spectral_repro.layers import recalibrate
from spectral_repro.layers.replicas import replicas, synchronise
from spectral_repro.optim.schedules import Constant, Schedule
from spectral_repro.training.divergence import Diverged, Watch
from spectral_repro.training.faults import StopRequest
from spectral_repro.training.frozen import frozen_parts, train_mode
from spectral_repro.training.loaders import Data, EpochBatches, as_batches
from spectral_repro.training.loggers import Progress
from spectral_repro.training.processes import any_rank, first_over_ranks, summed
from spectral_repro.training.recording import Recorder
from spectral_repro.training.spectra import log_eigenvalues, output_gap, spectrum_scalars
from spectral_repro.training.state import TrainingState, generator_states, restore_generators
from spectral_repro.training.step import BatchTransform, TrainingStep, sums_of
from spectral_repro.training.weights import AveragedWeights, WeightControl

EMA = "ema_"  # what the columns of the averaged weights begin with


class Trainer:
    """Trains a classifier epoch by epoch and evaluates it.

    Every ``log_every`` steps, and at the end of an epoch, it reads the sums of loss and accuracy from the device, logs them and
    checks that the loss is finite; in between it does not synchronise with the device. It keeps the state of the last
    successful check. If the loss is not finite, it repeats the steps since then under `Watch` to find the first layer with a
    value that is not finite.

    Args:
        model: maps inputs (B, ...) to logits (B, K); on its device.
        optimizer: of its parameters. The schedule multiplies the learning rates that its groups have now.
        train: inputs and labels: a pair of tensors, a `torch.utils.data.DataLoader`, or `Batches` of
            ``spectral_repro.data.batches``.
        validation, test: the same for evaluation; None: none. The best epoch is that of the highest validation accuracy, or
            where there are no validation data, test accuracy.
        settings: see `TrainerSettings`.
        schedule: factor of the learning rates by the completed fraction of the training, see
            ``spectral_repro.optim.schedules``; None: 1.
        weights: penalty, constraint and measurement of the weights; None: none.
        batch_transform: applied to every training batch, such as `torchvision.transforms.v2.MixUp`. Each process transforms its
            share of a batch. Labels may become probabilities (B, K).
        recorder: writes checkpoints and metrics; None: nothing is written.

    Raises:
        TypeError, ValueError: for data that are no pairs of inputs and labels, or make no batch.
        TypeError: for a schedule that is not a function, such as one of ``torch.optim.lr_scheduler``.
        ValueError: in one of several processes, for a data loader, and for a training batch with fewer images than processes.

    Attributes:
        state: everything that determines how the training continues.

    Example:
        >>> import torch
        >>> from spectral_repro.training import Trainer, TrainerSettings
        >>> images, labels = torch.randn(64, 8).sign(), torch.arange(64) % 2
        >>> images[:, 0] = 2.0 * labels - 1
        >>> network = torch.nn.Linear(8, 2)
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
        >>> trainer = Trainer(network, optimizer, (images, labels), test=(images, labels), settings=TrainerSettings(epochs=20))
        >>> rows = trainer.train()  # doctest: +ELLIPSIS
        epoch 1/20  train loss ...
        >>> rows[-1]["test_accuracy"]
        100.0
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        train: Data,
        validation: Data | None = None,
        test: Data | None = None,
        *,
        settings: TrainerSettings,
        schedule: Schedule | None = None,
        weights: WeightControl | None = None,
        batch_transform: BatchTransform | None = None,
        recorder: Recorder | None = None,
    ):
        if schedule is not None and (isinstance(schedule, type) or not callable(schedule)):
            name = schedule.__name__ if isinstance(schedule, type) else type(schedule).__name__
            raise TypeError(
                "schedule: must be a function of the completed fraction of the training, such as "
                f"spectral_repro.optim.schedules.Cosine(), got {name}"
            )
        device = next(model.parameters()).device
        options = (device, settings.seed, settings.batch_size)
        self.model, self.settings, self.recorder = model, settings, recorder or Recorder()
        self.train_batches = as_batches(train, *options, shuffle=True)
        self.evaluated = {
            name: as_batches(data, *options, shuffle=False)
            for name, data in (("validation", validation), ("test", test))
            if data is not None
        }
        _check_shares(self.train_batches)
        self.best_by = "test_accuracy" if validation is None else "validation_accuracy"
        steps = settings.epochs * len(self.train_batches)
        schedule, weights = schedule or Constant(), weights or WeightControl(model)
        ema = AveragedWeights(model, settings.ema_decay) if settings.ema_decay is not None else None
        if ema and replicas() > 1:
            synchronise(ema.module)  # its recomputed statistics are those of the whole batch
        self.state = TrainingState(model, optimizer, schedule, steps, settings.precision, weights, ema)
        self._step = TrainingStep(self.state, settings, batch_transform)
        self.stop = StopRequest()
        self.good: dict[str, Any] | None = None

    def train(self) -> list[dict[str, float]]:
        """Trains to the last epoch, from the state of the recorder if it has one.

        Returns:
            A row for each epoch: the columns of metrics.csv.

        Raises:
            Diverged: if the loss is not finite.
            TypeError: for batches of a data loader that are not pairs of inputs and labels.
            KeyboardInterrupt: if a stop was requested, after the current step.
        """
        state = self.state
        if self.recorder.restore(state):
            self._step.advance_hybrids(state.progress)
        self.recorder.start(state, self._best())
        self.progress = Progress(self.recorder.name, state.steps, state.step, self.settings.epochs)
        try:
            with StopRequest() as self.stop:
                for epoch in range(len(state.rows), self.settings.epochs):
                    self._train_epoch(epoch)
        finally:
            self.progress.close()
            self.stop = StopRequest()  # so that a request ends this training alone
        self.recorder.finish()
        return state.rows

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One step of the optimiser on the next batch of the training data, or this process's share of it."""
        index = self.state.step % len(self.train_batches)
        whole = len(labels) if replicas() == 1 else self.train_batches.length(index)
        self._step(images, labels, whole)

    def evaluate(self) -> dict[str, float]:
        """Loss, accuracy and, for more than 5 classes, top-5 accuracy in percent on validation and test data, also for the
        averaged weights, and the output gap if requested. The network is then in evaluation mode. Random generators are left as
        they were.
        """
        self.generators = generator_states(self.state.device)
        networks = {"": self.model} | ({EMA: self.state.ema.module} if self.state.ema else {})
        found: dict[str, float] = {}
        for prefix, network in networks.items():
            self._recalibrate(network)
            network.eval()
            for split, batches in self.evaluated.items():
                found |= {f"{prefix}{split}_{name}": value for name, value in self._measure(network, batches).items()}
        if number := self.settings.output_gap_batches:
            with self.state.autocast:
                found["output_gap"] = output_gap(self.model, self._first_batches(None if number == "all" else number))
        restore_generators(self.generators, self.state.device)
        return found

    def _train_epoch(self, epoch: int) -> None:
        state, settings, per_epoch = self.state, self.settings, len(self.train_batches)
        start, end = state.step - epoch * per_epoch, (epoch + 1) * per_epoch
        train_mode(self.model)
        self.clock, self.seen, self.good = time.monotonic(), state.sums.tolist(), state.snapshot()
        try:
            for images, labels in self.train_batches.epoch(epoch, start):
                if state.step == 0:
                    self.recorder.first_batch(images)
                self.step(images, labels)
                inside, stopping = state.step < end, any_rank(bool(self.stop.asked))
                due = inside and (stopping or state.step % (settings.checkpoint_every or state.steps) == 0)
                if inside and (due or state.step % settings.log_every == 0):
                    self._log_and_check()
                    self.good = state.snapshot()
                if due:
                    self._save(stopping)
            if start < per_epoch:
                self._log_and_check()
            self._finish_epoch(epoch + 1)
        except torch.linalg.LinAlgError:  # in a step, or in the evaluation of weights that are not finite
            raise self._replay(min(state.step + 1, end)) from None
        if any_rank(bool(self.stop.asked)):
            raise KeyboardInterrupt(self.stop.asked)

    def _save(self, stopping: bool) -> None:
        """Writes a checkpoint within an epoch; ends the training if a stop was requested."""
        self.recorder.save(self.state)
        if stopping:
            raise KeyboardInterrupt(self.stop.asked)

    def _log_and_check(self) -> None:
        """Reads the sums from the device, checks that the loss is finite, and logs the change since the last check."""
        state, now = self.state, time.monotonic()
        latest = torch.stack([each.to(state.sums) for each in self._step.latest or ()])
        *new, norm, gap = torch.cat([state.sums, latest]).tolist()
        loss, correct, count = new
        if not (loss < float("inf") and norm < float("inf")):
            raise self._replay(state.step)
        loss, correct, count = (after - before for after, before in zip(new, self.seen, strict=True))
        elapsed, self.clock, self.seen = now - self.clock, now, new
        state.seconds += elapsed
        scalars = {
            "train/loss": loss / count,
            "train/accuracy": 100 * correct / count,
            "train/images_per_second": count / elapsed,
            "train/learning_rate": state.optimizer.param_groups[0]["lr"],
            "train/gradient_norm": norm,
        }
        if math.isfinite(gap):
            scalars["train/smallest_gap"] = gap
        self.recorder.log(scalars, state.step)
        self.progress.step(state.step, loss / count, 100 * correct / count, count / elapsed)

    def _finish_epoch(self, epoch: int) -> None:
        state, (loss, correct, count) = self.state, self.seen
        seconds_before = state.rows[-1]["seconds"] if state.rows else 0.0
        due = epoch == self.settings.epochs or epoch % self.settings.evaluate_every == 0
        evaluated = self.evaluate() if due else {}
        columns, singular_values = state.weights.after_epoch(epoch, self.recorder.spectra)
        largest, smallest = state.extremes.tolist()
        row = {
            "epoch": epoch,
            "train_loss": loss / count,
            "train_accuracy": 100 * correct / count,
            **evaluated,
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            "largest_gradient": largest,
            **({"smallest_gap": smallest} if self._step.layers else {}),
            **columns,
            "images_per_second": count / (state.seconds - seconds_before),
            "step_time": 1000 * (state.seconds - seconds_before) / len(self.train_batches),
            "seconds": state.seconds,
        }
        state.rows.append(row)
        state.start_epoch()
        best = self._best()
        self.recorder.finish_epoch(state, best, is_best=row is best)
        scalars = {_tag(name): value for name, value in evaluated.items()}
        layers = self._step.layers if self._step.latest else {}  # without a step since a resume, they have no eigenvalues
        self.recorder.log(scalars | spectrum_scalars(layers) | singular_values, state.step)
        self.recorder.log_histograms(log_eigenvalues(layers), state.step)
        self.progress.epoch(state.step, row)

    def _best(self) -> dict[str, float] | None:
        """The row of the best epoch so far; None before the first evaluation."""
        evaluated = (row for row in self.state.rows if self.best_by in row)
        return max(evaluated, key=lambda row: row[self.best_by], default=None)

    def _measure(self, network: nn.Module, batches: EpochBatches) -> dict[str, float]:
        """Loss, accuracy and, for more than 5 classes, top-5 accuracy in percent, with one synchronisation.

        The logits of an image are the mean over its views.
        """
        sums, views, classes = self.state.sums.new_zeros(4), batches.views, 0
        with torch.inference_mode(), self.state.autocast:
            for images, labels in self._stoppable(batches.epoch(0)):
                logits = network(images)
                if views > 1:
                    logits, labels = logits.float().unflatten(0, (-1, views)).mean(1), labels[::views]
                classes = logits.shape[1]
                near = (logits.topk(min(5, classes)).indices == labels[:, None]).sum().double()
                sums += torch.cat([sums_of(logits, labels, cross_entropy(logits, labels)), near[None]])
        loss, correct, count, near = summed(sums).tolist()
        if self.good and not loss < float("inf") and not all(p.isfinite().all() for p in self.model.parameters()):
            raise self._replay(self.state.step)
        top5 = {"top5_accuracy": 100 * near / count} if classes > 5 else {}
        return {"loss": loss / count, "accuracy": 100 * correct / count} | top5

    def _recalibrate(self, network: nn.Module) -> None:
        """Recomputes the running statistics from the first training batches of an epoch, if requested."""
        if self.settings.recalibrate_batches:
            with self.state.autocast:
                batches = self._first_batches(self.settings.recalibrate_batches)
                recalibrate(network, (images for images, _ in batches), frozen_parts(network))

    def _first_batches(self, number: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``number`` batches of epoch 0; None: all."""
        return self._stoppable(islice(self.train_batches.epoch(0), number))

    def _stoppable(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an evaluation; ends the training when a stop is requested."""
        for batch in batches:
            if self.stop.asked and replicas() == 1:  # several processes may have different numbers of batches, and stop later
                restore_generators(self.generators, self.state.device)
                self._save(stopping=True)
            yield batch

    def _replay(self, end: int) -> Diverged:
        """Repeats the steps from the last successful check to ``end`` to find the layer that failed first."""
        state, per_epoch = self.state, len(self.train_batches)
        if self.good:
            state.load_state_dict(self.good)
        train_mode(self.model)
        epoch, start = divmod(state.step, per_epoch)
        for step, batch in zip(range(state.step, end), self.train_batches.epoch(epoch, start), strict=False):
            scale = state.scaler.get_scale()
            with torch.compiler.set_stance("force_eager"), Watch(self.model) as watch:
                self.step(*batch)
            failure, skipped = first_over_ranks(watch.failure), state.scaler.get_scale() < scale
            if failure and (failure.during == "output" or not skipped):  # float16 skips a step whose gradient overflows
                return Diverged(step, failure.layer, failure.during, failure.gap)
        return Diverged(end - 1)


def _check_shares(batches: EpochBatches) -> None:
    """
    Raises:
        ValueError: if a batch has no image for one of the processes.
    """
    if replicas() == 1:
        return
    smallest = min(batches.length(index) for index in range(len(batches)))
    if smallest < replicas():
        raise ValueError(
            f"the smallest training batch has {smallest} images, fewer than the {replicas()} processes: change the batch size "
            "or the number of images, or leave out the last batch (drop_last)"
        )


def _tag(column: str) -> str:
    """The name of a column for the loggers: test/loss for test_loss, ema_test/loss for ema_test_loss, train/output_gap."""
    for split in ("validation", "test"):
        for prefix in (split, f"{EMA}{split}"):
            if column.startswith(f"{prefix}_"):
                return f"{prefix}/{column.removeprefix(f'{prefix}_')}"
    return f"train/{column}"
