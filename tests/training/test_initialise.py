"""Initial weights of a run: computed once, before the training, from the first training images."""

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_batches, build_model, initialise, load_images

DEEP = ("dataset=random", "model=alexnet_deep", "model.num_layers=2", "dataset.batch_size=12", "optimizer.lr=0.001")
SVD = (*DEEP, "init=svd", "init.images=20")


def weights(folder) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]


@pytest.mark.parametrize("init", ["xavier", "kaiming", "orthogonal", "svd"])
def test_every_start_trains(train, init: str, capsys):
    folder = train(*DEEP, f"init={init}")
    assert '"finished"' in (folder / "summary.json").read_text()
    assert ("4 layers from the SVD of their inputs on 64 images" in capsys.readouterr().out) == (init == "svd")


def test_the_first_training_images_are_used():
    config = compose([*SVD, "scale=smoke", "dataset.flip=false", "dataset.crop_padding=0"])
    split, device = load_images(config).train, torch.device("cpu")
    seen = []
    model = build_model(config)
    model.features[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    initialise(config, model, split, device)
    batches = build_batches(config, split, device, train=True).epoch(0)
    expected = torch.cat([next(batches)[0], next(batches)[0]])[:20]
    assert len(seen) == 2 and all(torch.equal(images, expected) for images in seen)


def test_a_resumed_run_does_not_initialise_again(train, interrupt, capsys):
    expected = weights(train(*SVD))
    interrupt(*SVD, "force=true")
    assert capsys.readouterr().out.count("from the SVD") == 2
    found = weights(train(*SVD))
    assert "from the SVD" not in capsys.readouterr().out
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init.images=1", "model.width=8"], "init.images=1: only 16 inputs for 24 channels, take more"),
        (["init.layers=linear", "init.images=20"], "init.images=20: only 20 inputs for 256 channels, take more"),
    ],
)
def test_images_that_are_too_few_are_named_before_anything_is_written(train, tmp_path, overrides: list[str], message: str):
    with pytest.raises(UserError, match=f"^{message}$"):
        train(*SVD, *overrides)
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_run(train, capsys):
    checkpoint = train(*DEEP) / "checkpoints" / "last.pt"
    expected = torch.load(checkpoint, weights_only=True)["model"]
    found = weights(train(*DEEP, "init=checkpoint", f"init.checkpoint={checkpoint}", "optimizer.lr=1e-12", "seed=1"))
    assert f"{checkpoint}: {len(expected)} of {len(expected)} tensors taken\n" in capsys.readouterr().out
    assert all(torch.allclose(expected[key], found[key]) for key in expected)


def test_a_checkpoint_that_is_not_there_is_named_before_anything_is_written(train, tmp_path):
    with pytest.raises(UserError, match=r"^init\.checkpoint=.*nowhere\.pt: no such file"):
        train("init=checkpoint", "init.checkpoint=nowhere.pt")
    assert not (tmp_path / "runs").exists()
