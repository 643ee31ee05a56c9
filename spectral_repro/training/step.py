"""One step of a training."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from spectral_repro.configuration.settings import TrainerSettings
from spectral_repro.data.batches import seeded_generator
from spectral_repro.layers.replicas import replicas
from spectral_repro.linalg.backward import Hybrid
from spectral_repro.training.loaders import drawing_from
from spectral_repro.training.processes import replicated, summed
from spectral_repro.training.spectra import covariance_layers, smallest_gap
from spectral_repro.training.state import TrainingState

OF_TRANSFORMS = (0, 2)  # appended to seed and step, so that random numbers differ from those of data sets (seed and epoch)
BatchTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class TrainingStep:
    """Forward pass, backward pass and a step of the optimiser on a batch, without synchronising with the device.

    Attributes:
        latest: norm of the gradient and smallest relative gap between eigenvalues in the last step, on the device.
    """

    def __init__(self, state: TrainingState, settings: TrainerSettings, batch_transform: BatchTransform | None):
        self.state, self.settings, self.batch_transform = state, settings, batch_transform
        self.replica = replicated(state.model)
        self.layers = covariance_layers(state.model)
        self.hybrids = [hybrid for network in state.networks for hybrid in hybrids(network)]
        self.latest: tuple[Tensor, Tensor] | None = None

    def __call__(self, images: Tensor, labels: Tensor, whole: int) -> None:
        """One step on this process's share of a batch that has ``whole`` images."""
        state = self.state
        self.advance_hybrids(state.step / state.steps)
        state.optimizer.zero_grad(set_to_none=True)
        sums, gap = self._accumulate(*self._transformed(images, labels), whole)
        norm = self._gradient_norm()
        self.latest = norm, gap
        state.extremes[0] = torch.maximum(state.extremes[0], norm)
        state.extremes[1] = torch.minimum(state.extremes[1], gap)
        if self.settings.max_norm is not None:  # the scaled gradient is clipped by the factor of the true one
            torch.nn.utils.clip_grads_with_norm_(state.model.parameters(), self.settings.max_norm, norm)
        state.schedule_learning_rate()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step += 1
        state.weights.after_step(state.step)
        if state.ema:
            state.ema.update(state.model)
        state.sums += summed(sums)

    def advance_hybrids(self, done: float) -> None:
        """Tells the progress of the training to the methods that change during it."""
        for hybrid in self.hybrids:
            hybrid.advance(done)

    def _transformed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The transformed batch; random numbers depend only on the seed and the step."""
        if self.batch_transform is None:
            return images, labels
        with drawing_from(seeded_generator(self.settings.seed, self.state.step, *OF_TRANSFORMS)):
            return self.batch_transform(images, labels)

    def _accumulate(self, images: Tensor, labels: Tensor, whole: int) -> tuple[Tensor, Tensor]:
        """Adds up the gradient of the loss, part by part. Returns the `sums_of` of all parts, and the smallest gap."""
        state = self.state
        # the same number of parts on every process, because layers exchange their statistics
        number = min(self.settings.accumulate, whole // replicas())
        parts = list(zip(images.tensor_split(number), labels.tensor_split(number), strict=True))
        sums, gap = torch.zeros_like(state.sums), torch.full((), torch.inf, device=state.device)
        for place, (inputs, targets) in enumerate(parts, start=1):
            with self._synchronised(last=place == number):
                with state.autocast:
                    logits = self.replica(inputs)
                    loss = cross_entropy(logits, targets, label_smoothing=self.settings.label_smoothing)
                images_of_batch = 1 if self.settings.reduction == "sum" else whole
                # its average over the processes is the loss of the whole batch
                loss_of_batch = loss * (len(targets) * replicas() / images_of_batch)
                if place == number:
                    loss_of_batch = state.weights.penalised(loss_of_batch)
                state.scaler.scale(loss_of_batch).backward()
            sums = sums + sums_of(logits.detach(), targets, loss.detach())
            gap = torch.minimum(gap, smallest_gap(self.layers)) if self.layers else gap
        return sums, gap

    def _synchronised(self, last: bool) -> AbstractContextManager[object]:
        """Gradients are averaged over the processes once, with the last part."""
        return nullcontext() if last or not isinstance(self.replica, DistributedDataParallel) else self.replica.no_sync()

    def _gradient_norm(self) -> Tensor:
        scaler, parameters = self.state.scaler, self.state.model.parameters()
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if scaler.is_enabled():
            norm = torch.where(norm.isfinite(), norm, 0.0) / scaler.scale(torch.ones_like(norm))
        return norm


def hybrids(network: nn.Module) -> list[Hybrid]:
    """The backward methods of its layers that change during a training."""
    methods = [getattr(module, "backward_method", None) for module in network.modules()]
    return [method for method in methods if isinstance(method, Hybrid)]


def sums_of(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    """Summed loss, correct predictions and images of a batch, (3,) float64. Labels are (N,) or probabilities (N, K)."""
    correct = (logits.argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))).sum()
    count = torch.full_like(correct, len(labels))
    return torch.stack([loss.double() * count, correct.double(), count.double()])
