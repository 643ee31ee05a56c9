"""Measurements of the covariances of layers and of the outputs of a network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.linalg.orthogonality import singular_value_gap
from spectral_repro.training.processes import summed


def covariance_layers(model: nn.Module) -> dict[str, CovarianceNorm]:
    """The layers with a covariance, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, CovarianceNorm)}


def smallest_gap(layers: dict[str, CovarianceNorm]) -> Tensor:
    """The smallest (lambda_i - lambda_{i+1}) / lambda_i in any of the last covariances; infinite without a pair."""
    gaps = [neighbour_gaps(layer.eigenvalues).flatten() for layer in layers.values()]
    return torch.cat(gaps).amin() if any(gap.numel() for gap in gaps) else torch.tensor(torch.inf)


def neighbour_gaps(eigenvalues: Tensor) -> Tensor:
    """(lambda_i - lambda_{i+1}) / lambda_i of (..., d) eigenvalues, (..., d - 1); infinite where both are 0.

    NaN, from a method that computes no eigenvalues, stays NaN.
    """
    larger, smaller = eigenvalues[..., :-1], eigenvalues[..., 1:]
    return torch.where(larger <= 0, torch.inf, (larger - smaller) / larger)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """exp(-sum p log p) with p the eigenvalues' shares of their sum (Roy and Vetterli 2007); (..., d) to (...)."""
    shares = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()


def spectrum_scalars(layers: dict[str, CovarianceNorm]) -> dict[str, float]:
    """Largest and smallest eigenvalue and effective rank of each layer's last covariances, mean and minimum over its groups."""
    scalars: dict[str, float] = {}
    for name, layer in layers.items():
        eigenvalues = layer.eigenvalues
        kinds = {"largest": eigenvalues[:, 0], "smallest": eigenvalues[:, -1], "effective_rank": effective_rank(eigenvalues)}
        values = torch.stack([torch.stack((each.mean(), each.amin())) for each in kinds.values()]).tolist()
        for kind, (mean, minimum) in zip(kinds, values, strict=True):
            scalars |= {f"spectrum/{name}/{kind}_mean": mean, f"spectrum/{name}/{kind}_min": minimum}
    return scalars


def log_eigenvalues(layers: dict[str, CovarianceNorm]) -> dict[str, Tensor]:
    """The decimal logarithms of the positive eigenvalues of the last covariances, all groups of a layer together."""
    logarithms = {
        f"log10_eigenvalues/{name}": layer.eigenvalues.detach().flatten().log10().cpu() for name, layer in layers.items()
    }
    return {name: finite for name, each in logarithms.items() if len(finite := each[each.isfinite()])}


@torch.inference_mode()
def output_gap(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean `singular_value_gap` of the network's outputs over batches of images, each divided among the processes.

    The mode of the network does not change (daneshmand2021, Figure 3b).
    """
    outputs = (network(images).double() for images, _ in batches)
    grams = torch.stack([each.mT @ each for each in outputs])
    return singular_value_gap(summed(grams)).mean().item()
