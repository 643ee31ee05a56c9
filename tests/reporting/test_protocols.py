import pytest

from spectral_repro.reporting.protocols import counted, describe, differing, split

FULL = {
    "dataset.name": "digits",
    "dataset.num_classes": 10,
    "dataset.mean": [0.3],
    "dataset.batch_size": 64,
    "dataset.train_images": None,
    "dataset.load.train_images": None,
    "model._target_": "package.models.resnet18",
    "model.num_classes": 10,
    "model.width": 64,
    "optimizer._target_": "torch.optim.SGD",
    "optimizer.lr": 0.1,
    "optimizer.momentum": 0.9,
    "trainer.epochs": 20,
    "precision": "float32",
}


def test_split_removes_compared_values_and_the_seed():
    values = {"seed": 1, "norm._target_": "Z", "norm.eps": 1e-4, "normal": 2, "optimizer.lr": 0.1}
    assert split(values, ("norm",)) == ({"norm._target_": "Z", "norm.eps": 1e-4}, {"normal": 2, "optimizer.lr": 0.1})


def test_runs_of_a_row_may_start_from_different_weights():
    values = {"seed": 1, "init._target_": "F", "init.content": "a.pt"}
    assert split(values, ("norm",)) == ({}, {"init._target_": "F"})


def test_missing_keys_differ_from_null():
    assert differing({"a": 1, "b": None, "c": 3}, {"a": 1, "c": 4, "d": 0}) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("changes", "scales", "words"),
    [
        ({}, {"paper", "cpu"}, "resnet18, digits, full scale, 20 epochs, width 64, float32"),
        (
            {"trainer.epochs": 1, "model.width": 8, "dataset.train_images": 1000, "dataset.load.train_images": 1000},
            {"cpu"},
            "resnet18, digits, scale cpu, 1,000 training images, 1 epoch, width 8, float32",
        ),
        ({"optimizer.lr": 0.05}, {"paper"}, "resnet18, digits, 20 epochs, width 64, float32, optimizer.lr=0.05"),
        ({"precision": "bfloat16"}, {"paper"}, "resnet18, digits, full scale, 20 epochs, width 64, bfloat16"),
        (
            {"dataset.name": "cifar100", "dataset.num_classes": 100, "model.num_classes": 100, "dataset.mean": [0.5, 0.4, 0.4]},
            {"paper"},
            "resnet18, cifar100, 20 epochs, width 64, float32",
        ),
        (
            {"dataset.batch_size": 32, "dataset.mean": [0.5]},
            {"paper"},
            "resnet18, digits, 20 epochs, width 64, float32, dataset.batch_size=32, dataset.mean=[0.5]",
        ),
    ],
)
def test_words_for_a_protocol(changes, scales, words):
    assert ", ".join(describe(FULL | changes, FULL, scales, {})) == words


def test_the_actual_numbers_of_images_are_described():
    sizes = {"dataset.train_images": 1437}
    assert "1,437 training images" in describe(FULL | {"dataset.train_images": 5000}, FULL, {"cpu"}, sizes)


def test_another_class_is_described_by_its_name():
    adamw = {key: value for key, value in FULL.items() if key != "optimizer.momentum"}
    adamw |= {"optimizer._target_": "torch.optim.AdamW", "optimizer.betas": [0.9, 0.999]}
    assert describe(adamw, FULL, set(), {})[-2:] == ["optimizer=AdamW", "optimizer.betas=[0.9, 0.999]"]


def test_a_key_of_the_full_protocol_only_is_described():
    older = {key: value for key, value in FULL.items() if key != "optimizer.momentum"}
    assert describe(older, FULL, set(), {})[-1] == "without optimizer.momentum"


def test_counted():
    assert [counted(1, "run"), counted(0, "run"), counted(12345, "image")] == ["1 run", "0 runs", "12,345 images"]
