"""Metrics of test images: loss, top-1 and top-5 accuracy, for one view or the mean of several."""

import csv
import json
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


def logits(run: Path, overrides: list[str], views: int, split: str = "test", file: str = "last") -> tuple[Tensor, Tensor]:
    """Of the network as the run left it (N, K), with the labels (N,)."""
    config = compose(["scale=smoke", *overrides])
    model = build_model(config)
    model.load_state_dict(torch.load(run / "checkpoints" / f"{file}.pt", weights_only=True)["model"])
    model.eval()
    chosen = getattr(load_images(config), split)
    images, labels = zip(*build_batches(config, chosen, torch.device("cpu"), train=False).epoch(0), strict=True)
    with torch.no_grad():
        scores = torch.cat([model(batch) for batch in images])
    return torch.stack([scores[view::views] for view in range(views)]).mean(0), torch.cat(labels)[::views]


def assert_written(row: dict[str, str], scores: Tensor, labels: Tensor, split: str = "test") -> None:
    better = (scores > scores.gather(1, labels[:, None])).sum(1)
    assert float(row[f"{split}_loss"]) == pytest.approx(cross_entropy(scores, labels).item(), rel=1e-4)
    assert float(row[f"{split}_accuracy"]) == pytest.approx(100 * (better < 1).double().mean().item())
    assert float(row[f"{split}_top5_accuracy"]) == pytest.approx(100 * (better < 5).double().mean().item())


def test_top_5(train):
    overrides = ["dataset=digits", "trainer.epochs=1"]
    run = train(*overrides)
    row = last_row(run)
    assert_written(row, *logits(run, overrides, views=1))
    assert float(row["test_accuracy"]) < float(row["test_top5_accuracy"]) < 100


def test_no_top_5_of_few_classes(train):
    assert "test_top5_accuracy" not in last_row(train("dataset=random", "dataset.num_classes=5", "trainer.epochs=1"))


def test_the_best_epoch_is_chosen_by_the_validation_images(train):
    overrides = ["trainer.epochs=4", "dataset.train_images=320", "dataset.validation_fraction=0.25", "logger=none"]
    run = train(*overrides)
    summary = json.loads((run / "summary.json").read_text())
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert summary["images"] == {"train": 240, "validation": 80, "test": 32}
    assert summary["best_by"] == "validation_accuracy"
    best = max(rows, key=lambda row: float(row["validation_accuracy"]))
    assert summary["best"]["epoch"] == int(best["epoch"])
    for split in ("validation", "test"):
        assert_written(rows[-1], *logits(run, overrides, views=1, split=split), split)
        assert_written(best, *logits(run, overrides, views=1, split=split, file="best"), split)


def test_evaluated_every_so_many_epochs_and_after_the_last(train, capsys):
    def curve(run: Path) -> list[dict[str, str]]:
        with (run / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    overrides = ["trainer.epochs=5", "dataset.validation_images=16", "output_gap=singular_values", "output_gap.batches=1"]
    every = curve(train(*overrides))
    capsys.readouterr()
    run = train(*overrides, "trainer.evaluate_every=2", "force=true")
    rows, printed = curve(run), capsys.readouterr().out
    for column in ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "output_gap"):
        assert [row[column] for row in rows] == ["", every[1][column], "", every[3][column], every[4][column]]
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in every]
    assert [line.count("test loss") for line in printed.splitlines() if line.startswith("epoch ")] == [0, 1, 0, 1, 1]
    summary = json.loads((run / "summary.json").read_text())
    best = max((rows[epoch] for epoch in (1, 3, 4)), key=lambda row: float(row["validation_accuracy"]))
    assert summary["best"]["epoch"] == int(best["epoch"]) and summary["final"]["epoch"] == 5
    assert torch.load(run / "checkpoints" / "best.pt", weights_only=True)["rows"][-1]["epoch"] == int(best["epoch"])


def test_without_validation_images_the_best_epoch_is_chosen_by_test_images(train):
    summary = json.loads((train("trainer.epochs=1", "logger=none") / "summary.json").read_text())
    assert summary["best_by"] == "test_accuracy" and summary["images"] == {"train": 64, "test": 32}
    assert not any(name.startswith("validation") for name in summary["final"])


def test_all_seeds_share_their_validation_images(composed):
    first, second = (load_images(composed("dataset.validation_images=100", f"seed={seed}")) for seed in (0, 1))
    assert torch.equal(first.validation.images, second.validation.images) and len(first.train.labels) == 1337


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
