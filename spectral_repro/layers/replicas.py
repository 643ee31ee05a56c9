"""One batch over several processes: statistics of the whole batch on every replica of a network, with their gradients.

It needs a process group of `torch.distributed`, like `torch.nn.parallel.DistributedDataParallel`. Layers that treat every image
by itself, such as the poolings, need none of it.
"""

import functools
from typing import Any, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def replicas(group: dist.ProcessGroup | None = None) -> int:
    """How many processes share a batch: those of the group, by default all."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0 on."""
    return dist.get_rank() if replicas() > 1 else 0


def all_reduce(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The sum over the processes of the group, by default all; the gradient of its argument is the sum of theirs."""
    total: Tensor = _AllReduce.apply(x, group)
    return total


def whole_batch(
    mean: Tensor, covariance: Tensor, count: int, group: dist.ProcessGroup | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance over the positions of all processes of a group, from those over the ``count`` of this one.

    n = sum n_r, mean = sum n_r mean_r / n, covariance = sum n_r (covariance_r + mean_r mean_r^T) / n - mean mean^T, in one
    all-reduce of float64, because of cancellation. Processes may have different numbers of images.

    Args:
        mean: (C,).
        covariance: (G, d, d) by groups of d = C / G channels; d = 1: variances.
        count: positions of this process.
        group: the processes; by default all.

    Returns:
        mean (C,), covariance (G, d, d) and the number of positions of all, float64; the first two carry gradient to all
        processes.
    """
    mean = mean.double()
    second = covariance.double() + _outer(mean, covariance.shape[-1])
    totals = all_reduce(torch.cat([mean.new_ones(1), mean, second.flatten()]) * count, group)
    number, mean, second = totals.split([1, mean.numel(), second.numel()])
    mean = mean / number
    return mean, (second / number).view_as(covariance) - _outer(mean, covariance.shape[-1]), number


@torch.no_grad()
def update_running(running: Tensor, newest: Tensor, momentum: float | None, batches: Tensor) -> None:
    """Updates a running statistic in place: running <- (1 - momentum) running + momentum newest.

    Computed in the dtype of the newest statistic, which alone may be too large for a running one in float16.

    Args:
        running: the statistic of the batches before.
        newest: that of the newest batch.
        momentum: weight of the newest batch; None: 1 / batches, which makes ``running`` the mean over all batches.
        batches: number of batches with the newest, a tensor of one number.
    """
    share = batches.to(newest.dtype).reciprocal() if momentum is None else momentum
    running.copy_(running.to(newest.dtype).lerp(newest, share))


def synchronise(model: nn.Module) -> nn.Module:
    """Changes a network in place, for training in several processes.

    Batch norms, whitening and denoising layers use the statistics of the whole batch, on a CPU too (where
    `torch.nn.SyncBatchNorm` refuses). Instance norms track the mean over all images. Each process draws its own dropout masks;
    torch's global generators stay equal. Names, parameters and buffers do not change.

    Args:
        model: a network, or a single module.

    Returns:
        The network.
    """
    for module in model.modules():
        if hasattr(module, "synchronised"):
            module.synchronised = True  # type: ignore[assignment]
        elif isinstance(module, (*BATCH_NORMS, *INSTANCE_NORMS, _DropoutNd)):
            module.__class__ = _synchronised(type(module))  # type: ignore[arg-type,assignment]
    return model


@functools.cache
def _synchronised(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass with the forward for several processes."""
    made = {"synchronised": True, "unsynchronised": kind, "__reduce_ex__": _reduce}
    bases: tuple[type[nn.Module], ...]
    if issubclass(kind, BATCH_NORMS):  # a forward of a subclass calls that of batch norm by super()
        base = next(each for each in BATCH_NORMS if issubclass(kind, each))
        bases = (_WholeBatch, base) if kind is base else (kind, _synchronised(base))
    else:
        bases = (_MeanOverReplicas if issubclass(kind, INSTANCE_NORMS) else _OwnNumbers, kind)
    return type(kind.__name__, bases, made)


def _reduce(module: nn.Module, protocol: SupportsIndex) -> tuple[Any, ...]:
    """``__reduce_ex__`` of the classes that are made here, which pickle cannot find by their names."""
    return _new, (module.unsynchronised,), module.__getstate__()


def _new(kind: type[nn.Module]) -> nn.Module:
    """A module of the class for several processes, without attributes."""
    made = _synchronised(kind)  # type: ignore[arg-type]
    return made.__new__(made)


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return _summed(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return _summed(grad_output, ctx.group), None


class _WholeBatch(_BatchNorm):
    """y = weight * (x - mean) / sqrt(variance + eps) + bias with the statistics of the whole batch in training."""

    running_mean: Tensor  # these are None without running statistics
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            plain: Tensor = super().forward(x)
            return plain
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        axes, count = [axis for axis in range(x.dim()) if axis != 1], x.numel() // x.shape[1]
        if count * replicas() < 2:
            raise ValueError(f"expected more than 1 value per channel in training, got an input of shape {tuple(x.shape)}")
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)
        mean, covariance, number = whole_batch(mean, variance[:, None, None], count)
        variance = covariance.flatten()
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            for running, newest in ((self.running_mean, mean), (self.running_var, variance * (number / (number - 1)))):
                update_running(running, newest, self.momentum, self.num_batches_tracked)
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shape, dtype = (-1, *[1] * (x.dim() - 2)), torch.promote_types(x.dtype, torch.float32)
        y = (x - mean.to(dtype).view(shape)) * scale.to(dtype).view(shape)
        return (y if self.bias is None else y + self.bias.view(shape)).to(x.dtype)


class _MeanOverReplicas(_InstanceNorm):
    """Tracks the mean of the statistics of all images, where an instance norm alone takes those of its own process.

    The running statistics after a step are linear in that mean: their own mean over the processes, weighted by images.
    """

    running_mean: Tensor  # these are None without running statistics
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        if self.training and self.track_running_stats and dist.is_initialized():
            self._average(len(x))
        return y

    @torch.no_grad()
    def _average(self, images: int) -> None:
        running = torch.stack([self.running_mean, self.running_var]).double()
        total = _summed(torch.cat([running.new_ones(1), running.flatten()]) * images, None)
        for statistic, mean in zip((self.running_mean, self.running_var), (total[1:] / total[0]).chunk(2), strict=True):
            statistic.copy_(mean)


class _OwnNumbers(_DropoutNd):
    """Draws other random numbers in every process."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor
        if not self.training:
            y = super().forward(x)
            return y
        seed = int(torch.randint(2**62, ())) + rank()
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            generator = torch.cuda.default_generators[x.device.index] if x.is_cuda else torch.default_generator
            generator.manual_seed(seed)
            y = super().forward(x)
            return y


def _summed(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def _outer(mean: Tensor, group_size: int) -> Tensor:
    column = mean.view(-1, group_size, 1)
    return column * column.mT  # no product of matrices, which autocast would round
