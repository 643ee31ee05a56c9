"""The one trainer."""

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spectral_repro.data.batches import Batches
from spectral_repro.data.images import ImageData
from spectral_repro.layers import recalibrate
from spectral_repro.layers.replicas import rank, replicas
from spectral_repro.linalg.backward import Hybrid
from spectral_repro.optim.schedules import Schedule
from spectral_repro.training.build import build_batches
from spectral_repro.training.checkpoint import load_checkpoint, save_checkpoint
from spectral_repro.training.divergence import Diverged, Watch
from spectral_repro.training.faults import StopRequest
from spectral_repro.training.files import write_metrics
from spectral_repro.training.frozen import frozen_parts, train_mode
from spectral_repro.training.loggers import Loggers, Progress
from spectral_repro.training.processes import any_rank, first_over_ranks, replicated, summed
from spectral_repro.training.run_folder import RunFolder
from spectral_repro.training.spectra import covariance_layers, log_eigenvalues, output_gap, smallest_gap, spectrum_scalars
from spectral_repro.training.state import TrainingState
from spectral_repro.training.weights import WeightControl

PICTURES = 32  # of the first batch, for the loggers


class Trainer:
    """Trains a network epoch by epoch, logs, writes checkpoints and evaluates.

    Every ``trainer.log_every`` steps, and at the end of an epoch, it reads the sums of loss and accuracy from the device, logs
    them and checks that the loss is finite; in between it does not wait for the device. It keeps the state of the last check
    that passed. After a loss that is not finite it replays the steps since then under `Watch` to find the layer that broke.
    """

    def __init__(
        self,
        config: DictConfig,
        run: RunFolder,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        weights: WeightControl,
        images: ImageData,
        device: torch.device,
        loggers: Loggers,
    ):
        self.config, self.run, self.model, self.device, self.loggers = config, run, model, device, loggers
        self.class_names = images.class_names
        self.replica, share = replicated(model), (rank(), replicas())
        self.train_batches = build_batches(config, images.train, device, train=True, share=share)
        splits = {"validation": images.validation, "test": images.test}
        self.evaluated = {
            name: build_batches(config, split, device, train=False, share=share) for name, split in splits.items() if split
        }
        self.best_by = f"{images.chosen_by}_accuracy"
        self.epochs, self.train_images = config.trainer.epochs, self.train_batches.images
        self.steps = self.epochs * len(self.train_batches)
        scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.autocast = torch.autocast(device.type, getattr(torch, config.precision), enabled=config.precision != "float32")
        self.state = TrainingState(model, optimizer, schedule, self.steps, scaler, weights)
        loss = config.get("loss", {})
        self.label_smoothing, self.summed = loss.get("label_smoothing", 0.0), loss.get("reduction") == "sum"
        self.max_norm = config.gradient_clipping.max_norm if "gradient_clipping" in config else None
        self.layers = covariance_layers(model)
        methods = [getattr(module, "backward_method", None) for module in model.modules()]
        self.hybrids = [method for method in methods if isinstance(method, Hybrid)]

    def train(self) -> None:
        state = self.state
        if self.run.checkpoints:
            load_checkpoint(self.run.checkpoints, state)
            if state.rows:
                self._record()
            self._advance(max(state.step - 1, 0))
        self.run.update(total_steps=self.steps)
        self.loggers.open(self.run, self.config, state.step)
        self.progress = Progress(self.run.folder.name, self.steps, state.step, self.epochs)
        try:
            with StopRequest() as self.stop:
                for epoch in range(len(state.rows), self.epochs):
                    self._train_epoch(epoch)
        finally:
            self.progress.close()
        self.run.update(state="finished")

    def _train_epoch(self, epoch: int) -> None:
        state, options, per_epoch = self.state, self.config.trainer, len(self.train_batches)
        start, end = state.step - epoch * per_epoch, (epoch + 1) * per_epoch
        train_mode(self.model)
        self.clock, self.seen, self.good = time.monotonic(), state.sums.tolist(), state.snapshot()
        try:
            for images, labels in self.train_batches.epoch(epoch, start):
                if state.step == 0 and images.shape[1] in (1, 3):
                    self.loggers.log_images("train/augmented_images", self.train_batches.as_pictures(images[:PICTURES]), 0)
                self._step(images, labels)
                inside, stopping = state.step < end, any_rank(self.stop.asked)
                due = inside and (stopping or state.step % (options.checkpoint_every or self.steps) == 0)
                if inside and (due or state.step % options.log_every == 0):
                    self._log_and_check()
                    self.good = state.snapshot()
                if due:
                    self._save(stopping)
        except torch.linalg.LinAlgError:
            raise self._replay(state.step + 1) from None
        if start < per_epoch:
            self._log_and_check()
        self._finish_epoch(epoch + 1)
        if any_rank(self.stop.asked):
            raise KeyboardInterrupt(self.stop.asked)

    def _save(self, stopping: bool) -> None:
        """A checkpoint within an epoch, after its last step at the latest; ends the training if that was asked for."""
        save_checkpoint(self.run.checkpoint, self.state, self.config, self.class_names, keep=self.run.previous)
        self.run.update(steps=self.state.step)
        if stopping:
            raise KeyboardInterrupt(self.stop.asked)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        state = self.state
        self._advance(state.step)
        with self.autocast:
            logits = self.replica(images)
            loss = cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        state.optimizer.zero_grad(set_to_none=True)
        images_of_batch = 1 if self.summed else self.train_batches.length(state.step % len(self.train_batches))
        loss_of_batch = loss * (len(labels) * replicas() / images_of_batch)  # its average over the processes is the whole's
        state.scaler.scale(state.weights.penalised(loss_of_batch)).backward()
        norm, _ = self.latest = self._note_extremes()
        if self.max_norm is not None:  # what the scaler multiplied is shortened by the factor of the true gradient
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.max_norm, norm)
        state.schedule_learning_rate()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step += 1
        state.weights.after_step(state.step)
        state.sums += summed(_sums(logits.detach(), labels, loss.detach()))

    def _advance(self, step: int) -> None:
        for hybrid in self.hybrids:
            hybrid.advance(step / self.steps)

    def _note_extremes(self) -> tuple[Tensor, Tensor]:
        """Returns the norm of the gradient and the smallest relative gap between eigenvalues."""
        scaler, extremes = self.state.scaler, self.state.extremes
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if scaler.is_enabled():
            norm = torch.where(norm.isfinite(), norm, 0.0) / scaler.scale(torch.ones_like(norm))
        extremes[0] = torch.maximum(extremes[0], norm)
        gap = smallest_gap(self.layers) if self.layers else torch.full_like(norm, torch.inf)
        extremes[1] = torch.minimum(extremes[1], gap)
        return norm, gap

    def _log_and_check(self) -> None:
        """Reads the sums from the device, checks that the loss is finite, and logs what is new since the last check."""
        state, now = self.state, time.monotonic()
        *new, norm, gap = torch.cat([state.sums, torch.stack([each.to(state.sums) for each in self.latest])]).tolist()
        loss, correct, count = new
        if not loss < float("inf"):
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
        self.loggers.log(scalars, state.step)
        self.progress.look(state.step, loss / count, 100 * correct / count, count / elapsed)

    def _finish_epoch(self, epoch: int) -> None:
        state, (loss, correct, count) = self.state, self.seen
        seconds_before = state.rows[-1]["seconds"] if state.rows else 0.0
        evaluated, gap = self._evaluate(), self._output_gap()
        columns, singular_values = state.weights.after_epoch(epoch, self.run.folder / "spectra.csv")
        row = {
            "epoch": epoch,
            "train_loss": loss / count,
            "train_accuracy": 100 * correct / count,
            **{f"{split}_{name}": value for split, values in evaluated.items() for name, value in values.items()},
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            **self._extremes(),
            **columns,
            **gap,
            "images_per_second": count / (state.seconds - seconds_before),
            "step_time": 1000 * (state.seconds - seconds_before) / len(self.train_batches),
            "seconds": state.seconds,
        }
        state.rows.append(row)
        state.start_epoch()
        if row is self._best():
            save_checkpoint(self.run.checkpoint.with_name("best.pt"), state, self.config, self.class_names)
        save_checkpoint(self.run.checkpoint, state, self.config, self.class_names, keep=self.run.previous)
        self._record()
        by_split = evaluated | {"train": gap}
        scalars = {f"{split}/{name}": value for split, values in by_split.items() for name, value in values.items()}
        self.loggers.log(scalars | spectrum_scalars(self.layers) | singular_values, state.step)
        self.loggers.log_histograms(log_eigenvalues(self.layers), state.step)
        self.progress.epoch(state.step, row)

    def _extremes(self) -> dict[str, float]:
        largest, smallest = self.state.extremes.tolist()
        return {"largest_gradient": largest} | ({"smallest_gap": smallest} if self.layers else {})

    def _best(self) -> dict[str, float]:
        return max(self.state.rows, key=lambda row: row[self.best_by])

    def _record(self) -> None:
        """Brings metrics.csv and summary.json up to the state."""
        state = self.state
        write_metrics(self.run.folder / "metrics.csv", state.rows)
        final = state.rows[-1]
        self.run.update(
            epochs=final["epoch"],
            steps=state.step,
            final=final,
            best=self._best(),
            best_by=self.best_by,
            images_per_second=len(state.rows) * self.train_images / final["seconds"],
        )

    def _evaluate(self) -> dict[str, dict[str, float]]:
        """What `_measure` says of the validation images, if there are any, and of the test images."""
        self._recalibrate()
        self.model.eval()
        return {name: self._measure(batches) for name, batches in self.evaluated.items()}

    def _measure(self, batches: Batches) -> dict[str, float]:
        """Loss, accuracy and, of more than 5 classes, top-5 accuracy in percent, with one synchronisation.

        The logits of an image are the mean over its views.
        """
        sums, views = self.state.sums.new_zeros(4), batches.views
        with torch.inference_mode(), self.autocast:
            for images, labels in self._stoppable(batches.epoch(0)):
                logits = self.model(images)
                if views > 1:
                    logits, labels = logits.float().unflatten(0, (-1, views)).mean(1), labels[::views]
                near = (logits.topk(min(5, logits.shape[1])).indices == labels[:, None]).sum().double()
                sums += torch.cat([_sums(logits, labels, cross_entropy(logits, labels)), near[None]])
        loss, correct, count, near = summed(sums).tolist()
        if not loss < float("inf") and not all(p.isfinite().all() for p in self.model.parameters()):
            raise self._replay(self.state.step)
        top5 = {"top5_accuracy": 100 * near / count} if self.config.dataset.num_classes > 5 else {}
        return {"loss": loss / count, "accuracy": 100 * correct / count} | top5

    def _recalibrate(self) -> None:
        """Computes the running statistics anew, from the first training batches of an epoch, if that is asked for."""
        if number := self.config.trainer.recalibrate_batches:
            batches = islice(self.train_batches.epoch(0), number)
            with self.autocast:
                recalibrate(self.model, (images for images, _ in self._stoppable(batches)), frozen_parts(self.model))

    def _output_gap(self) -> dict[str, float]:
        """Of the first epoch's training images, if it is asked for; the network is left in evaluation by `_evaluate`."""
        if "output_gap" not in self.config:
            return {}
        with self.autocast:
            batches = islice(self.train_batches.epoch(0), self.config.output_gap.batches)
            return {"output_gap": output_gap(self.model, self._stoppable(batches))}

    def _stoppable(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches after an epoch, up to the moment when the run is asked to stop."""
        for batch in batches:
            if self.stop.asked and replicas() == 1:  # several, whose batches are not as many, stop after the last
                self._save(stopping=True)
            yield batch

    def _replay(self, end: int) -> Diverged:
        """Repeats the steps from the last check that passed to ``end``, watching every layer: which broke first?"""
        state, per_epoch = self.state, len(self.train_batches)
        state.load_state_dict(self.good)
        train_mode(self.model)
        epoch, start = divmod(state.step, per_epoch)
        for step, batch in zip(range(state.step, end), self.train_batches.epoch(epoch, start), strict=False):
            scale = state.scaler.get_scale()
            with torch.compiler.set_stance("force_eager"), Watch(self.model) as watch:
                self._step(*batch)
            failure, skipped = first_over_ranks(watch.failure), state.scaler.get_scale() < scale
            if failure and (failure.during == "output" or not skipped):  # float16 skips a step whose gradient overflows
                return Diverged(step, failure.layer, failure.during, failure.gap)
        return Diverged(end - 1)


def _sums(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    """Summed loss, correct predictions and images of a batch."""
    correct = (logits.argmax(1) == labels).sum()
    count = torch.full_like(correct, len(labels))
    return torch.stack([loss.double() * count, correct.double(), count.double()])
