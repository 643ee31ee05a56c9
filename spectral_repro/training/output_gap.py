"""Whether the outputs of a network become orthogonal while it learns."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spectral_repro.linalg.orthogonality import singular_value_gap
from spectral_repro.training.processes import summed


@torch.inference_mode()
def output_gap(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean over batches of images, each divided among the processes, of the `singular_value_gap` of the network's outputs.

    Its mode is left as it is (daneshmand2021, Figure 3b).
    """
    outputs = (network(images).double() for images, _ in batches)
    grams = torch.stack([each.mT @ each for each in outputs])
    return singular_value_gap(summed(grams)).mean().item()
