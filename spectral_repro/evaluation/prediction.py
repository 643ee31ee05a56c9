"""Predicted classes of image files."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from spectral_repro.data.image_files import START_METHOD, opened, own_process_group
from spectral_repro.data.transforms import EvaluationTransforms
from spectral_repro.errors import UserError
from spectral_repro.evaluation.trained import TrainedNetwork
from spectral_repro.listing import visible


def files_in(place: Path) -> list[Path]:
    """The file itself, or all files in a folder and its subfolders by path, without files of the operating system. Links to a
    parent folder are skipped.

    Raises:
        UserError: if there are no files.
    """
    try:
        files = [place] if place.is_file() else list(_files(place, {place.resolve()}))
    except OSError as error:
        raise UserError(f"images={place}: cannot be read ({error.strerror})") from error
    if not files:
        raise UserError(f"images={place}: holds no files")
    return files


def _files(folder: Path, around: set[Path]) -> Iterator[Path]:
    """The files in a folder. ``around`` are its parent folders, to which links are skipped."""
    for path in visible(folder):
        if not path.is_dir():
            yield path
        elif (inner := path.resolve()) not in around:
            yield from _files(path, around | {inner})


def predict(
    trained: TrainedNetwork, paths: Sequence[Path], batch_size: int, workers: int
) -> Iterator[tuple[Path, Tensor | UserError]]:
    """The class probabilities (K,) float32 of every file, on the CPU, or the error if it cannot be read as an image.

    They are the softmax of the mean logits over the views that the training uses in evaluation.
    """
    workers = min(workers, math.ceil(len(paths) / batch_size))
    batches = DataLoader(
        _Pictures(paths, trained.transforms),
        batch_size,
        num_workers=workers,
        multiprocessing_context=START_METHOD if workers else None,
        collate_fn=list,
        worker_init_fn=own_process_group,
        generator=torch.Generator(),
    )
    remaining = iter(paths)
    for batch in batches:
        pictures = [views for views in batch if isinstance(views, Tensor)]
        probabilities = iter(_probabilities(trained.network, torch.stack(pictures)) if pictures else ())
        for views, path in zip(batch, remaining, strict=False):
            yield path, next(probabilities) if isinstance(views, Tensor) else views


@torch.inference_mode()
def _probabilities(network: nn.Module, views: Tensor) -> Tensor:
    """Class probabilities (N, K) of images (N, V, C, S, S) with V views."""
    device = next(network.parameters()).device
    logits = network(views.flatten(0, 1).to(device)).float().unflatten(0, views.shape[:2])
    return logits.mean(1).softmax(1).cpu()


@dataclass(frozen=True)
class _Pictures(Dataset):
    paths: Sequence[Path]
    transforms: EvaluationTransforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor | UserError:
        try:
            with opened(str(self.paths[number])) as image:
                return self.transforms.all_views(image)
        except UserError as error:
            return error
