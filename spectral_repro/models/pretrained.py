"""Weights of torchvision's networks under the names of the networks here."""

from torch import Tensor, nn

from spectral_repro.layers.pooling import AveragePooling

Layer = tuple[str, nn.Module]


def translate(source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """What ``target`` can take of a network of torchvision with as many convolutions, one for one in their order.

    A convolution of the same shape gives its weight, and its batch norm everything. Convolutions here have no bias: theirs is
    taken off the running mean behind them, which comes to the same once the statistics are frozen. The linear layer goes
    with average pooling.

    Returns:
        Tensors by their names in ``target``: of one that has torchvision's architecture, all of them.

    Raises:
        ValueError: for another number of convolutions.
    """
    theirs, ours = _convolutions(source), _convolutions(target)
    if len(theirs) != len(ours):
        raise ValueError(f"it has {len(theirs)} convolutions, the model {len(ours)}")
    weights = {}
    for ((_, convolution), norm), ((name, own), own_norm) in zip(theirs, ours, strict=True):
        if convolution.weight.shape != own.weight.shape:
            continue
        weights[f"{name}.weight"] = convolution.weight
        if own_norm:
            weights |= {f"{own_norm[0]}.{key}": value for key, value in _statistics(convolution, norm).items()}
    linear = [module for module in source.modules() if isinstance(module, nn.Linear)][-1]
    if isinstance(target.pooling, AveragePooling) and linear.weight.shape == target.classifier.weight.shape:
        weights |= {f"classifier.{key}": value for key, value in linear.state_dict().items()}
    return weights


def _convolutions(network: nn.Module) -> list[tuple[Layer, Layer | None]]:
    """Every convolution before the pooling with the batch norm behind it, if there is one."""
    found = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("pooling."):
            found.append(((name, module), None))
        elif isinstance(module, nn.BatchNorm2d) and not name.startswith("pooling."):
            found[-1] = (found[-1][0], (name, module))
    return found


def _statistics(convolution: nn.Conv2d, norm: Layer | None) -> dict[str, Tensor]:
    """The state of the batch norm behind a convolution without bias."""
    state = norm[1].state_dict() if norm else {}
    if convolution.bias is not None:
        state["running_mean"] = state.get("running_mean", 0) - convolution.bias.detach()
    return state
