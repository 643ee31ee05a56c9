"""What is written down of the test images: loss, top-1 and top-5 accuracy, of one view or the mean of several."""

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from spectral_repro.configuration.compose import compose
from spectral_repro.training.build import build_batches, build_model, load_images


def last_row(run: Path) -> dict[str, str]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))[-1]


def logits(run: Path, overrides: list[str], views: int) -> tuple[Tensor, Tensor]:
    """Of the network as the run left it (N, K), with the labels (N,)."""
    config = compose(["scale=smoke", *overrides])
    model = build_model(config)
    model.load_state_dict(torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"])
    model.eval()
    images, labels = zip(
        *build_batches(config, load_images(config).test, torch.device("cpu"), train=False).epoch(0), strict=True
    )
    with torch.no_grad():
        scores = torch.cat([model(batch) for batch in images])
    return torch.stack([scores[view::views] for view in range(views)]).mean(0), torch.cat(labels)[::views]


def assert_written(row: dict[str, str], scores: Tensor, labels: Tensor) -> None:
    better = (scores > scores.gather(1, labels[:, None])).sum(1)
    assert float(row["test_loss"]) == pytest.approx(cross_entropy(scores, labels).item(), rel=1e-4)
    assert float(row["test_accuracy"]) == pytest.approx(100 * (better < 1).double().mean().item())
    assert float(row["test_top5_accuracy"]) == pytest.approx(100 * (better < 5).double().mean().item())


def test_top_5(train):
    overrides = ["dataset=digits", "trainer.epochs=1"]
    run = train(*overrides)
    row = last_row(run)
    assert_written(row, *logits(run, overrides, views=1))
    assert float(row["test_accuracy"]) < float(row["test_top5_accuracy"]) < 100


def test_no_top_5_of_few_classes(train):
    assert "test_top5_accuracy" not in last_row(train("dataset=random", "dataset.num_classes=5", "trainer.epochs=1"))


@pytest.mark.parametrize("views", ["mirrored", "ten_crop"])
def test_mean_over_views(tmp_path, train, views: str):
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "val"):
        for name in "abcdefg":
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = torch.randint(256, (22, 26, 3), dtype=torch.uint8, generator=generator)
                Image.fromarray(pixels.numpy()).save(tmp_path / split / name / f"{number}.png")
    sizes = ["dataset.num_classes=7", "dataset.image_size=16", "dataset.resize=20", "dataset.workers=0"]
    short = ["model=alexnet_small", "trainer.epochs=1"]
    overrides = [
        *short,
        "dataset=imagenet",
        f"dataset.root={tmp_path}",
        *sizes,
        "dataset.test_images=21",
        f"dataset.views={views}",
    ]
    run = train(*overrides)
    assert_written(last_row(run), *logits(run, overrides, views=2 if views == "mirrored" else 10))
