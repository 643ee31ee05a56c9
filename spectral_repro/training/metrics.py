"""What a run writes down while it trains: metrics.csv and TensorBoard events."""

import csv
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.training.files import write_whole


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """metrics.csv, a row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


class TensorBoard:
    """Scalars of a run; a run that goes on replaces the events after its step."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def log(self, scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def spectrum_scalars(model: nn.Module) -> dict[str, float]:
    """Of each covariance in the network: largest and smallest eigenvalue and effective rank, by layer and group."""
    layers = {name: module.eigenvalues for name, module in model.named_modules() if isinstance(module, CovarianceNorm)}
    scalars = {}
    for name, eigenvalues in layers.items():
        parts = torch.stack([eigenvalues[:, 0], eigenvalues[:, -1], effective_rank(eigenvalues)], -1).tolist()
        for group, (largest, smallest, rank) in enumerate(parts):
            prefix = f"spectrum/{name}/group_{group}"
            scalars |= {f"{prefix}/largest": largest, f"{prefix}/smallest": smallest, f"{prefix}/effective_rank": rank}
    return scalars


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """exp(-sum p log p) with p the eigenvalues' shares of their sum (Roy and Vetterli 2007); (..., d) to (...)."""
    shares = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()
