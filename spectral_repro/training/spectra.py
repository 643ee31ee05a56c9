"""What a training looks at in the spectra of its layers."""

import torch
from torch import Tensor, nn

from spectral_repro.layers.covariance_norm import CovarianceNorm


def covariance_layers(model: nn.Module) -> dict[str, CovarianceNorm]:
    """The layers with a covariance, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, CovarianceNorm)}


def smallest_gap(layers: dict[str, CovarianceNorm]) -> Tensor:
    """The smallest (lambda_i - lambda_{i+1}) / lambda_i in any of the last covariances; infinite without a pair."""
    gaps = [relative_gaps(layer.eigenvalues).flatten() for layer in layers.values()]
    return torch.cat(gaps).amin() if any(gap.numel() for gap in gaps) else torch.tensor(torch.inf)


def relative_gaps(eigenvalues: Tensor) -> Tensor:
    """(lambda_i - lambda_{i+1}) / lambda_i of (..., d) eigenvalues, (..., d - 1); infinite where both are 0: no direction.

    NaN, of a method that finds no eigenvalues, stays NaN.
    """
    larger, smaller = eigenvalues[..., :-1], eigenvalues[..., 1:]
    return torch.where(larger <= 0, torch.inf, (larger - smaller) / larger)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """exp(-sum p log p) with p the eigenvalues' shares of their sum (Roy and Vetterli 2007); (..., d) to (...)."""
    shares = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()


def spectrum_scalars(layers: dict[str, CovarianceNorm]) -> dict[str, float]:
    """Of each covariance: largest and smallest eigenvalue and effective rank, by layer and group."""
    scalars = {}
    for name, layer in layers.items():
        eigenvalues = layer.eigenvalues
        parts = torch.stack([eigenvalues[:, 0], eigenvalues[:, -1], effective_rank(eigenvalues)], -1).tolist()
        for group, (largest, smallest, rank) in enumerate(parts):
            prefix = f"spectrum/{name}/group_{group}"
            scalars |= {f"{prefix}/largest": largest, f"{prefix}/smallest": smallest, f"{prefix}/effective_rank": rank}
    return scalars
