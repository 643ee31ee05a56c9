"""One batch over several processes: statistics of the whole batch on every replica of a network, with their gradients.

It takes a process group of `torch.distributed` with more than one process, as `torch.nn.parallel.DistributedDataParallel` does.
A layer that looks at every image by itself, as the poolings do, needs none of it.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def replicas() -> int:
    """How many processes share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0 on."""
    return dist.get_rank() if replicas() > 1 else 0


def all_reduce(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The sum over the processes of the group, by default all; the gradient of its argument is the sum of theirs."""
    return _AllReduce.apply(x, group)


def whole_batch(
    mean: Tensor, covariance: Tensor, count: int, group: dist.ProcessGroup | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance over the positions of all processes of a group, from those over the ``count`` of this one.

    n = sum n_r, mean = sum n_r mean_r / n, covariance = sum n_r (covariance_r + mean_r mean_r^T) / n - mean mean^T, in one
    all-reduce of float64, which makes up for the cancellation. Shards may be of unequal size.

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


def synchronise(model: nn.Module) -> nn.Module:
    """The network, in place: its batch norms, whitening and denoising layers take the statistics of the whole batch, on a CPU
    as well, where `torch.nn.SyncBatchNorm` refuses, and its dropouts draw other numbers on every replica, which leaves torch's
    global generators alike. Names, parameters and buffers stay.
    """
    for module in model.modules():
        if hasattr(module, "synchronised"):
            module.synchronised = True
        elif type(module) in SYNCHRONISED:
            module.__class__ = SYNCHRONISED[type(module)]
    return model


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return _summed(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return _summed(gradient, ctx.group), None


class _WholeBatchNorm:
    """y = weight * (x - mean) / sqrt(variance + eps) + bias with the statistics of the whole batch in training."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)
        mean, covariance, number = whole_batch(mean, variance[:, None, None], x.numel() // x.shape[1])
        variance = covariance.flatten()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (number / (number - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = (variance + self.eps).rsqrt()
        mean, scale = (part.to(self.running_mean.dtype).view(-1, *[1] * (x.dim() - 2)) for part in (mean, scale))
        weight, bias = (part.view_as(scale) for part in (self.weight, self.bias))
        return ((x - mean) * (weight * scale) + bias).to(x.dtype)


class _BatchNorm1d(_WholeBatchNorm, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_WholeBatchNorm, nn.BatchNorm2d):
    pass


class _Dropout(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        generator = torch.Generator(x.device).manual_seed(torch.randint(2**62, ()).item() + rank())
        return x * torch.empty_like(x).bernoulli_(1 - self.p, generator=generator) / (1 - self.p)


SYNCHRONISED = {nn.BatchNorm1d: _BatchNorm1d, nn.BatchNorm2d: _BatchNorm2d, nn.Dropout: _Dropout}


def _summed(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def _outer(mean: Tensor, group_size: int) -> Tensor:
    column = mean.view(-1, group_size, 1)
    return column * column.mT  # no product of matrices, which autocast would round
