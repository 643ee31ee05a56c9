"""What belongs to the identity of a run, and what does not."""

import shutil
from itertools import product
from pathlib import Path

import pytest

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import digest, identity, pinned
from spectral_repro.errors import UserError


def run_id(*overrides: str) -> str:
    return digest(identity(compose(overrides)))


@pytest.mark.parametrize(
    "override",
    [
        "device=cpu",
        "results_dir=elsewhere",
        "force=true",
        "trainer.log_every=3",
        "trainer.checkpoint_every=3",
        "trainer.evaluate_every=3",
        "trainer.extend=results/runs/shorter",
        "trainer.threads=1",
        "trainer.cudnn_benchmark=true",
        "trainer.matmul_precision=highest",
        "trainer.autotune=false",
        "optimizer.fused=true",
        "dataset.root=elsewhere",
        "dataset.download=false",
        "paper=wang2019",
        "logger=none",
        "logger=[tensorboard,wandb]",
        "dataset.validation_images=null",
    ],
)
def test_keys_that_cannot_change_the_result_are_ignored(override: str):
    assert run_id("dataset=cifar10", override) == run_id("dataset=cifar10")


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "norm=zca",
        "model.width=32",
        "optimizer.lr=0.2",
        "schedule=cosine",
        "gradient_clipping=norm",
        "trainer.epochs=3",
        "precision=bfloat16",
        "trainer.matmul_precision=high",
        "trainer.autotune=true",
        "dataset.train_images=100",
        "dataset.validation_images=100",
        "dataset.validation_fraction=0.1",
        "dataset.batch_size=64",
        "dataset=cifar100",
        "dataset.check_integrity=false",
        "scale=smoke",
    ],
)
def test_keys_that_can_change_the_result_count(override: str):
    assert run_id("dataset=cifar10", override) != run_id("dataset=cifar10")


@pytest.mark.parametrize("override", ["dataset.memory_limit_gib=0", "dataset.workers=0", "dataset.download=false"])
def test_where_images_are_decoded_is_ignored(override: str):
    assert run_id("dataset=image_folder", override) == run_id("dataset=image_folder")


@pytest.mark.parametrize("override", ["dataset.memory_limit_gib=0", "dataset.workers=0", "dataset.root=elsewhere"])
def test_folder_and_workers_of_image_lists_are_ignored(override: str):
    assert run_id("dataset=aircraft", override) == run_id("dataset=aircraft")


@pytest.mark.parametrize("override", ["dataset.resize=[512,512]", "dataset.crop=centre", "dataset.views=plain"])
def test_cropping_of_image_lists_counts(override: str):
    assert run_id("dataset=aircraft", override) != run_id("dataset=aircraft")


def test_the_gradient_counts_only_where_a_layer_uses_it():
    assert run_id("norm=batch", "backward=pi") == run_id("norm=batch")
    assert run_id("norm=zca", "backward=pi") != run_id("norm=zca")


def test_a_group_that_is_null_leaves_no_key():
    assert not {"gradient_clipping", "init", "finetune", "pooling"} & compose([]).keys()


def test_plain_convolutions_add_no_key():
    assert run_id("conv=standard") == run_id() != run_id("conv=tt")


def test_newer_keys_with_their_defaults_are_ignored():
    assert not any("validation" in key for key in identity(compose([])))


def test_an_experiment_has_the_identity_of_its_values():
    by_hand = run_id("dataset=cifar10", "norm=zca_pi", "norm.group_size=16")
    assert run_id("experiment=wang2019/resnet18_zca_d16") == by_hand


def test_the_number_of_epochs_counts():
    assert run_id("dataset.epochs=7") == run_id("trainer.epochs=7")


def test_zero_and_zero_point_zero_are_equal():
    assert run_id("optimizer.weight_decay=0") == run_id("optimizer.weight_decay=0.0") != run_id("optimizer.weight_decay=0.1")


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """A folder of two classes in the current folder."""
    monkeypatch.chdir(tmp_path)
    for part, name in product(("train", "test"), ("cat", "dog")):
        (folder := tmp_path / "images" / part / name).mkdir(parents=True)
        (folder / "1.png").write_bytes(b"one")
    return tmp_path / "images"


def id_of_images(root: Path | str, *more: str) -> str:
    return pinned_id("dataset=image_folder", f"dataset.root={root}", *more)


def test_a_folder_of_images_counts_by_its_content_wherever_it_lies(images):
    expected = id_of_images("images")
    for root in ("./images", images, f"{images}/../images/", shutil.copytree(images, "elsewhere")):
        assert id_of_images(root, "dataset.num_classes=2") == expected
    (images / "test" / "cat" / ".DS_Store").touch()
    (images / "val").mkdir()  # not read beside test
    assert id_of_images(images) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.with_name("2.png").touch(),
        lambda path: path.rename(path.with_name("2.png")),
        lambda path: path.write_bytes(b"another"),
        lambda path: path.rename(path.parents[2] / "train" / "cat" / "of_test.png"),
        lambda path: path.parent.rename(path.parents[1] / "cow"),
        lambda path: path.unlink() or path.symlink_to("nothing"),
    ],
    ids=["more", "renamed", "another size", "moved", "another class", "a broken link"],
)
def test_another_content_of_a_folder_is_another_run(images, change):
    expected, content = (
        id_of_images(images),
        pinned(compose(["dataset=image_folder", f"dataset.root={images}"])).dataset.content,
    )
    assert id_of_images(images, f"dataset.content='{content}'") == expected
    change(images / "test" / "cat" / "1.png")
    assert id_of_images(images) != expected
    with pytest.raises(UserError, match=rf"^dataset\.content={content}: {images} now has the content [0-9a-f]+; restore"):
        id_of_images(images, f"dataset.content='{content}'")


def test_classes_are_counted_in_folders_alone(tmp_path):
    with pytest.raises(UserError, match=r"^dataset\.num_classes=null: give the number of classes"):
        pinned_id("dataset=cifar10", "dataset.num_classes=null")
    with pytest.raises(UserError, match=r"nowhere is missing: dataset\.root must be"):
        pinned_id("dataset=image_folder", f"dataset.root={tmp_path / 'nowhere'}")


def test_weights_to_start_from_count_by_their_content(tmp_path):
    for name, content in (("a.pt", b"one"), ("b.pt", b"one"), ("c.pt", b"two")):
        (tmp_path / name).write_bytes(content)
    one, same, other = (pinned_id("init=checkpoint", f"init.checkpoint={tmp_path / name}") for name in ("a.pt", "b.pt", "c.pt"))
    assert one == same != other


def pinned_id(*overrides: str) -> str:
    return digest(identity(pinned(compose(overrides))))
