"""The user's own images, in memory and streamed from their files."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import pinned
from spectral_repro.data import Batches, image_folder
from spectral_repro.training.build import build_batches, load_images

CLASSES = ("10", "9", "cat")  # in the order of their names
MODES = ("RGB", "L", "P", "RGBA")


@pytest.fixture
def root(tmp_path) -> Path:
    """Images of several sizes and modes: 7, 8 and 9 of the three classes in train, 3 of each in test."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", (7, 8, 9)), ("test", (3, 3, 3))):
        for name, count in zip(CLASSES, counts, strict=True):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(256, size=(10 + number, 17 - number, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(MODES[number % 4]).save(folder / f"{number}.png")
    return tmp_path / "images"


def load(root: Path, **changes):
    return image_folder(str(root), **{"image_size": 8, "workers": 0} | changes)


def test_classes_are_the_folders_in_the_order_of_their_names(root):
    data = load(root)
    assert data.train.labels.tolist() == [0] * 7 + [1] * 8 + [2] * 9
    assert data.test.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert data.train.images.shape == (24, 3, 8, 8)
    assert data.train.images.dtype == torch.uint8
    assert data.notes == ()
    assert load(root, channels=1).train.images.shape == (24, 1, 8, 8)
    assert data.class_names == CLASSES


def test_a_class_without_test_images_keeps_the_numbers_of_the_others(root):
    (root / "test" / "10").rename(root / "aside")
    assert load(root).test.labels.tolist() == [1] * 3 + [2] * 3


def test_val_stands_in_for_test(root):
    expected = load(root).test
    (root / "test").rename(root / "val")
    data = load(root)
    assert torch.equal(data.test.images, expected.images)
    assert data.notes == ("the test images are those of the folder val",)
    (root / "test" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(root / "test" / "cat" / "black.png")
    data = load(root)
    assert data.test.labels.tolist() == [2] and not data.notes


def test_hidden_files_are_left_out(root):
    (root / "train" / ".checkpoints").mkdir()
    (root / "train" / "read.me").touch()
    for name in (".DS_Store", "._1.png", "Thumbs.db", "desktop.ini"):
        (root / "train" / "cat" / name).touch()
    for name in ("__MACOSX", "$RECYCLE.BIN", "train/__MACOSX", "train/lost+found", "test/System Volume Information"):
        (root / name).mkdir()
    assert len(load(root).train.labels) == 24


@pytest.fixture
def flat(root) -> Path:
    """The 10, 11 and 12 images of the three classes in one folder."""
    for name in CLASSES:
        for path in (root / "test" / name).iterdir():
            path.rename(root / "train" / name / f"of_test_{path.name}")
    return (root / "train").rename(root.with_name("flat"))


def test_a_folder_of_classes_is_split_by_a_seed(flat):
    def paths(**changes) -> tuple[list[str], list[str]]:
        data = load(flat, memory_limit_gib=0, **changes)
        return data.train.images.paths, data.test.images.paths

    data = load(flat)
    assert data.train.labels.bincount().tolist() == [8, 9, 10] and data.test.labels.bincount().tolist() == [2, 2, 2]
    assert data.class_names == CLASSES
    assert data.notes == ("the test images are 20 % of every class, drawn by dataset.split_seed=0",)
    train, test = paths()
    everything = sorted(str(path) for path in flat.rglob("*.png"))
    assert sorted(train + test) == everything and paths() == (train, test)
    other, other_test = paths(split_seed=1)
    assert sorted(other + other_test) == everything and other_test != test
    assert load(flat, test_fraction=0.5).test.labels.bincount().tolist() == [5, 6, 6]


def test_every_class_has_a_training_image(flat, error_of):
    for name in CLASSES[:2]:
        for path in list((flat / name).iterdir())[1:]:
            path.unlink()
    data = load(flat)
    assert data.train.labels.bincount().tolist() == [1, 1, 10] and data.test.labels.tolist() == [2, 2]
    assert load(flat, test_fraction=0.99).train.labels.bincount().tolist() == [1, 1, 1]
    for path in list((flat / "cat").iterdir())[1:]:
        path.unlink()
    assert "every class has one image" in error_of(load, flat)


def test_a_folder_that_has_changed_is_another_run(root, train, capsys):
    options = overrides(root, "trainer.epochs=1", "logger=none")
    first = train(*options)
    assert "began with other images" not in capsys.readouterr().out and train(*options) == first
    assert "finished already" in capsys.readouterr().out
    moved = shutil.copytree(root, root.with_name("moved"))
    (moved / "train" / "cat" / "0.png").rename(moved / "train" / "9" / "of_cat.png")
    options = overrides(moved, "trainer.epochs=1", "logger=none")
    assert train(*options) != first
    assert f"{first}: began with other images in {root}; this is a new run\n" in capsys.readouterr().out
    assert train(*options, "seed=1") and "began with other images" not in capsys.readouterr().out


def test_the_checkpoint_of_a_run_on_such_a_folder_knows_its_classes(flat, train):
    run = train(*overrides(flat, "dataset.name=my animals", "trainer.epochs=1"))
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert content["class_names"] == list(CLASSES)
    assert content["config"]["dataset"]["num_classes"] == content["config"]["model"]["num_classes"] == 3
    assert train(*overrides(flat, "dataset.name=my animals", "trainer.epochs=1", "dataset.num_classes=3")) == run
    (flat / "dog").mkdir()
    (flat / "cat" / "0.png").rename(flat / "dog" / "0.png")
    assert train(*overrides(flat, "dataset.name=my animals", "trainer.epochs=1")) != run


def test_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(load(Path("~/images")).train.labels) == 24


def test_images_are_held_up_to_the_limit(root):
    size = 24 * 3 * 8 * 8
    assert isinstance(load(root, memory_limit_gib=size / 2**30).train.images, torch.Tensor)
    streamed = load(root, memory_limit_gib=(size - 1) / 2**30)
    assert not isinstance(streamed.train.images, torch.Tensor)
    assert isinstance(streamed.test.images, torch.Tensor)
    assert streamed.train.images.shape == (24, 3, 8, 8)


@pytest.mark.parametrize("limit", [0, 4])
def test_subset_is_fixed_nested_and_leaves_the_rest_unread(root, limit: float):
    whole = load(root).train

    def part(count: int):
        split = load(root, train_images=count, memory_limit_gib=limit).train
        return split.images.read() if limit == 0 else split.images, split.labels

    (large, labels), (small, _) = part(12), part(5)
    assert torch.equal(large[:5], small)
    matches = (large.flatten(1)[:, None] == whole.images.flatten(1)[None]).all(-1)
    assert torch.equal(whole.labels[matches.int().argmax(1)], labels)
    assert len(labels.unique()) == 3
    assert len(part(10**6)[1]) == 24

    paths = load(root, memory_limit_gib=0).train.images.paths
    chosen = load(root, train_images=5, memory_limit_gib=0).train.images.paths
    for path in set(paths) - set(chosen):
        Path(path).write_text("no image")
    assert torch.equal(part(5)[0], small)


AUGMENTATION = {"crop_padding": 2, "flip": True, "seed": 3}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [AUGMENTATION, {"shuffle": False}, AUGMENTATION | {"channels_last": False}])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_streamed_batches_are_those_from_memory(root, workers: int, options: dict):
    splits = [load(root, memory_limit_gib=limit, workers=workers).train for limit in (4, 0)]
    held, streamed = (Batches(split, 5, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), **options) for split in splits)
    assert len(held) == len(streamed) == 5
    for epoch, start in ((0, 0), (1, 0), (2, 0), (2, 3), (0, 4), (1, 5)):
        state = torch.get_rng_state()
        found, expected = list(streamed.epoch(epoch, start)), list(held.epoch(epoch, start))
        assert torch.equal(torch.get_rng_state(), state)
        assert len(found) == len(expected) == 5 - start
        for (images, labels), (expected_images, expected_labels) in zip(found, expected, strict=True):
            assert torch.equal(images, expected_images)
            assert images.stride() == expected_images.stride()
            assert torch.equal(labels, expected_labels)
    assert len(multiprocessing.active_children()) == workers  # the same ones in all epochs
    del streamed
    assert not multiprocessing.active_children()


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "changes", "named"),
    [
        (lambda root: (root / "train").rename(root / "trian"), {}, ["train is missing", "dataset.root"]),
        (lambda root: (root / "test").rename(root / "tets"), {}, ["test is missing", "or val"]),
        (lambda root: root.rename(root.with_name("moved")), {}, ["images is missing", "dataset.root"]),
        (lambda root: (root / "train").rename(root / "all") and (root / "train").mkdir(), {}, ["train has no subfolders"]),
        (lambda root: (root / "test").rename(root / "all") and (root / "test").mkdir(), {}, ["test has no subfolders"]),
        (lambda root: empty(root / "train" / "9"), {}, ["train/9 is empty"]),
        (lambda root: empty(root / "test" / "cat"), {}, ["test/cat is empty"]),
        (lambda root: (root / "test" / "9").rename(root / "test" / "dog"), {}, ["test/dog", "no class of this name"]),
        (lambda root: None, {"num_classes": 10}, ["dataset.num_classes=10", "has 3 classes"]),
        (lambda root: None, {"num_classes": 2}, ["dataset.num_classes=2", "has 3 classes"]),
        (lambda root: None, {"channels": 4}, ["dataset.channels=4", "1 (grey) or 3 (colour)"]),
        (lambda root: (root / "test" / "9" / "0.png").write_text("no image"), {}, ["test/9/0.png cannot be read as an image"]),
        (lambda root: (root / "train" / "9" / "notes.txt").touch(), {}, ["train/9/notes.txt cannot be read as an image"]),
        (lambda root: (root / "train" / "9" / "more").mkdir(), {}, ["train/9/more cannot be read", "Is a directory"]),
    ],
)
@pytest.mark.parametrize("limit", [0, 4])
def test_what_is_refused(root, spoil: Callable, changes: dict, named: list[str], limit: float, error_of):
    spoil(root)
    message = error_of(load, root, memory_limit_gib=limit, **changes)
    assert all(text in message for text in named), message


def test_root_without_permission(root, error_of):
    root.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # permissions do not bind root
            os.seteuid(65534)
        message = error_of(load, root)
    finally:
        os.seteuid(user)
        root.chmod(0o700)
    assert str(root) in message and "Permission denied" in message and "dataset.root" in message


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-60])
    return path


def test_truncated_file_is_refused_while_loading(root, error_of):
    path = truncate(root / "train" / "9" / "4.png")
    assert error_of(load, root).startswith(f"{path} cannot be read as an image")


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_file_ends_a_streamed_epoch(root, workers: int, error_of):
    path = truncate(root / "train" / "9" / "4.png")
    batches = Batches(load(root, memory_limit_gib=0, workers=workers).train, 5, (0.5,) * 3, (0.2,) * 3)
    assert error_of(lambda: [*batches.epoch(0)]).startswith(f"{path} cannot be read as an image")
    assert not multiprocessing.active_children()


def overrides(root: Path, *more: str) -> list[str]:
    sizes = ["dataset.image_size=8", "dataset.crop_padding=1", "dataset.workers=0"]
    return ["dataset=image_folder", f"dataset.root={root}", *sizes, *more]


def result(run: Path) -> tuple[list[str], dict[str, torch.Tensor]]:
    """The metrics but for the timings, and the weights."""
    rows = (run / "metrics.csv").read_text().splitlines()
    weights = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    return [",".join(row.split(",")[:5]) for row in rows], weights


def same(first: tuple, second: tuple) -> bool:
    return first[0] == second[0] and all(torch.equal(first[1][key], second[1][key]) for key in first[1])


def test_a_run_is_the_same_both_ways(root, train):
    held = train(*overrides(root))
    expected = result(held)
    streamed = train(*overrides(root, "dataset.memory_limit_gib=0", "dataset.workers=1", "force=true"))
    assert streamed == held  # where and how images are decoded is no part of a run's identity
    assert same(result(streamed), expected)
    assert len(expected[0]) == 3


def test_a_streamed_run_is_resumed_in_memory(root, train, interrupt):
    expected = result(train(*overrides(root)))
    interrupt(*overrides(root, "force=true", "dataset.memory_limit_gib=0", "dataset.workers=1"))
    assert not multiprocessing.active_children()
    assert same(result(train(*overrides(root))), expected)


def test_another_folder_of_images_is_evaluated_again(root, train, call, tmp_path):
    run = train(*overrides(root, "trainer.epochs=1", "model=alexnet_small"))
    other = Path(shutil.copytree(root, tmp_path / "other"))
    (other / "test" / "cat" / "0.png").unlink()

    def evaluate(*more: str) -> tuple[int, str]:
        result = call("evaluate", f"run={run}", "metrics=accuracy", *more)
        return json.loads((run / "evaluation.json").read_text())["accuracy"]["images"], result.stdout

    assert evaluate()[0] == 9
    assert "measured already" in evaluate()[1]
    assert evaluate(f"dataset.root={other}")[0] == 9, "a measurement of other images is replaced with force alone"
    assert evaluate(f"dataset.root={other}", "force=true")[0] == 8
    assert "measured already" in evaluate("dataset.root=other/../other")[1]
    (other / "train" / "cat").rename(other / "train" / "dog")
    (other / "test" / "cat").rename(other / "test" / "dog")
    result = call("evaluate", f"run={run}", "metrics=accuracy", f"dataset.root={other}", "force=true")
    assert "was trained on the classes 10, 9, cat, but the images are of 10, 9, dog" in result.stderr


def test_the_table_of_a_sweep_finds_runs_of_a_relative_folder(root, call):
    few = ("scale=smoke", "trainer.epochs=1", "trainer.threads=1", "model=alexnet_small", "logger=none")
    result = call("train", "-m", "seed=0,1", *few, *overrides(Path("images")))
    assert result.returncode == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("|") and "±" in line and "Method" not in line]
    assert row.split("|")[3].strip() == "2", row


def test_image_folder_as_the_trainer_builds_it(root):
    config = pinned(compose([*overrides(root), "dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.25]"]))
    assert config.model.num_classes == 3
    images = load_images(config)
    batches, labels = zip(*build_batches(config, images.test, torch.device("cpu"), train=False).epoch(0), strict=True)
    expected = (images.test.images.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(torch.cat(batches).double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(torch.cat(labels), images.test.labels)


def test_truncated_file_ends_a_streamed_run_in_one_line(root, train, tmp_path, error_of):
    path = truncate(root / "train" / "9" / "4.png")
    message = error_of(train, *overrides(root, "dataset.memory_limit_gib=0", "dataset.workers=1"))
    assert message.startswith(f"{path} cannot be read as an image (")
    (summary,) = tmp_path.glob("runs/*/summary.json")
    found = json.loads(summary.read_text())
    assert (found["state"], found["failure"]) == ("failed", {"error": message})
