"""Weights of torchvision's networks under the names of the networks here."""

from torch import Tensor, nn

from spectral_repro.layers.pooling import AveragePooling

Convolution = tuple[str, nn.Conv2d]
Norm = tuple[str, nn.BatchNorm2d]


def translate(source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """The weights that ``target`` can use of a network of torchvision with as many convolutions, matched in order.

    A convolution of the same shape is used with its batch norm. Convolutions here have no bias: a bias there is subtracted from
    the running mean after it, which is equivalent once the statistics are frozen. The linear layer is used with average
    pooling.

    Returns:
        Tensors by their names in ``target``; all of them if it has torchvision's architecture.

    Raises:
        ValueError: for another number of convolutions.
    """
    theirs, ours = _convolutions(source), _convolutions(target)
    if len(theirs) != len(ours):
        raise ValueError(f"it has {len(theirs)} convolutions, the model {len(ours)}")
    weights: dict[str, Tensor] = {}
    for ((_, convolution), norm), ((name, own), own_norm) in zip(theirs, ours, strict=True):
        if convolution.weight.shape != own.weight.shape:
            continue
        weights[f"{name}.weight"] = convolution.weight
        if own_norm:
            weights |= {f"{own_norm[0]}.{key}": value for key, value in _statistics(convolution, norm).items()}
    linear = [module for module in source.modules() if isinstance(module, nn.Linear)][-1]
    classifier = target.get_submodule("classifier")
    takes_linear = isinstance(target.pooling, AveragePooling) and isinstance(classifier, nn.Linear)
    if takes_linear and linear.weight.shape == classifier.weight.shape:
        weights |= {f"classifier.{key}": value for key, value in linear.state_dict().items()}
    return weights


def _convolutions(network: nn.Module) -> list[tuple[Convolution, Norm | None]]:
    """Every convolution before the pooling with the batch norm after it, if there is one."""
    found: list[tuple[Convolution, Norm | None]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("pooling."):
            found.append(((name, module), None))
        elif isinstance(module, nn.BatchNorm2d) and not name.startswith("pooling."):
            found[-1] = (found[-1][0], (name, module))
    return found


def _statistics(convolution: nn.Conv2d, norm: Norm | None) -> dict[str, Tensor]:
    """The state of the batch norm after a convolution, the bias of the convolution included."""
    state: dict[str, Tensor] = norm[1].state_dict() if norm else {}
    if convolution.bias is not None:
        bias = convolution.bias.detach()
        state["running_mean"] = state["running_mean"] - bias if "running_mean" in state else -bias
    return state
