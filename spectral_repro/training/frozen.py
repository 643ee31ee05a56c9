"""Parts of a network that a training does not change.

A part is frozen if it has parameters and none of them needs a gradient. It stays in evaluation mode: its running statistics do
not change, neither in training nor when statistics are recomputed, and its dropout is off.
"""

from collections.abc import Sequence

from torch import nn

from spectral_repro.errors import UserError


def freeze(network: nn.Module, parts: Sequence[str]) -> None:
    """Freezes the parameters whose names begin with one of these parts.

    Args:
        parts: such as features, stages.0 or stem, which also matches stem_norm. Numbers are matched as a whole: stages.1 does
            not match stages.10.

    Raises:
        UserError: for a part that matches no parameter.
    """
    for part in parts:
        frozen = [parameter for name, parameter in network.named_parameters() if _begins_with(name, part)]
        if not frozen:
            children = ", ".join(name for name, _ in network.named_children())
            raise UserError(f"finetune.frozen={part}: no parameter's name begins with it; parts of the network: {children}")
        for parameter in frozen:
            parameter.requires_grad_(False)


def _begins_with(name: str, part: str) -> bool:
    return name.startswith(part) and not (part[-1:].isdigit() and name[len(part) :][:1].isdigit())


def frozen_parts(network: nn.Module) -> list[nn.Module]:
    """The frozen parts, none of them within another."""
    if _is_frozen(network):
        return [network]
    return [part for child in network.children() for part in frozen_parts(child)]


def train_mode(network: nn.Module) -> None:
    """Sets the network to training mode, its frozen parts to evaluation mode."""
    network.train()
    for part in frozen_parts(network):
        part.eval()


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
