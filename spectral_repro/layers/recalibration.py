"""Running statistics of fixed weights."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(
    network: nn.Module, batches: Iterable[Tensor | Sequence[Tensor]], frozen: Iterable[nn.Module] = ()
) -> nn.Module:
    """Recomputes the running statistics of all batch norms, whitening and denoising layers with the current weights.

    During training, running statistics average over batches that earlier weights produced. Here all batches are computed with
    the same weights and count equally, with all other layers in evaluation mode (Wu and Johnson 2021, "Rethinking Batch in
    BatchNorm", precise batch norm). About 20 batches are usually enough.

    Args:
        network: any network; its weights, its momenta and the training mode of its modules do not change.
        batches: inputs of the network, of the training data and as large as in training, such as a data loader. Of a list or
            tuple, such as (images, labels), the first is taken, as by `torch.optim.swa_utils.update_bn`.
        frozen: modules of the network that keep their running statistics, as do all modules in them.

    Returns:
        The network.

    Raises:
        ValueError: without a batch.

    After an error, in the network or in the batches, the statistics are as before.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), ZCAWhitening(16))
        >>> batches = [torch.randn(32, 3, 8, 8) for _ in range(20)]  # of the training images
        >>> recalibrate(network, batches)[1].num_batches_tracked
        tensor(20)
    """
    kept = {module for part in frozen for module in part.modules()}
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    layers = [layer for layer in layers if layer not in kept]
    modes = {module: module.training for module in network.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    before = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    network.eval()
    try:
        for number, batch in enumerate(batches):
            for layer in layers if number == 0 else ():
                layer.reset_running_stats()
                layer.train()
                layer.momentum = None
            network(batch[0] if isinstance(batch, list | tuple) else batch)
        if layers and not any(layer.training for layer in layers):
            raise ValueError("no batch to recalibrate the running statistics with")
    except BaseException:
        for buffer, value in before:
            buffer.copy_(value)
        raise
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer in layers:
            layer.momentum = momenta[layer]
            layer.train(modes[layer])
    return network
