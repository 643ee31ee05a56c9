"""Trained weights as initial weights: those that fit, and errors for those that cannot be used."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.identity import file_digest
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_model, initialise, load_images
from spectral_repro.training.checkpoint import renamed

RESNET = ("model=resnet18", "init=pretrained", "init.network=resnet18")


def start(overrides: Sequence[str]) -> torch.nn.Module:
    config = compose(overrides)
    model = build_model(config)
    initialise(config, model, load_images(config).train, torch.device("cpu"))
    return model


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The file of torchvision's ResNet-18 as if downloaded, with random weights; its place."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    path = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Every address refuses."""

    def refuse(*arguments, **options):
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)


def test_published_weights(published, capsys):
    state = torch.load(published, weights_only=True)
    model = start([*RESNET, "model.num_classes=10"])
    assert model.stages[3][1].conv2.weight.equal(state["layer4.1.conv2.weight"])
    assert "tensors taken; new: classifier.bias, classifier.weight, stem.weight" in capsys.readouterr().out


def test_published_weights_are_nothing_but_weights(published):
    torch.save({"conv1.weight": print}, published)
    with pytest.raises(UserError, match=r"^init\.weights=IMAGENET1K_V1: .*resnet18-.*\.pth cannot be downloaded and is not in"):
        start(RESNET)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init.weights=V3"], r"^init\.weights=V3: those of resnet18 are IMAGENET1K_V1$"),
        (["model=resnet34"], r"^init\.network=resnet18: it has 20 convolutions, the model 36$"),
        (["model.width=8", "model.stem_channels=8"], "none of its weights fits this network"),
    ],
)
def test_errors_for_pretrained_weights(published, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        start([*RESNET, *overrides])
    assert len(str(error.value).splitlines()) == 1


def test_without_a_network_the_error_names_the_missing_file(offline, tmp_path):
    with pytest.raises(UserError) as error:
        start(RESNET)
    (line,) = str(error.value).splitlines()
    assert "https://download.pytorch.org/models/resnet18-" in line and str(tmp_path / "hub" / "checkpoints") in line


# Weights of another run


@pytest.fixture
def checkpoint(tmp_path):
    """Of a network on the digits; the overrides that start from it."""
    path = tmp_path / "best.pt"
    torch.save({"model": build_model(compose(["scale=smoke", "seed=1"])).state_dict()}, path)
    return path


def start_from(path, *overrides: str) -> torch.nn.Module:
    return start(["scale=smoke", "init=checkpoint", f"init.checkpoint={path}", *overrides])


def test_a_checkpoint_gives_all_its_weights(checkpoint):
    expected = torch.load(checkpoint, weights_only=True)["model"]
    found = start_from(checkpoint).state_dict()
    assert found.keys() == expected.keys() and all(value.equal(expected[name]) for name, value in found.items())


def test_weights_that_do_not_fit_are_named(checkpoint, capsys):
    model = start_from(checkpoint, "dataset.num_classes=12")
    assert model.stem.weight.equal(torch.load(checkpoint, weights_only=True)["model"]["stem.weight"])
    assert capsys.readouterr().out.endswith("tensors taken; new: classifier.bias, classifier.weight\n")


@pytest.mark.parametrize("norm", [("norm=zca",), ("norm=zca", "norm.running=matrix")], ids=["covariance", "matrix"])
def test_whitening_takes_the_running_statistics_of_a_batch_norm(tmp_path, norm, capsys):
    model = build_model(compose(["scale=smoke", "norm=batch", "norm.eps=1e-3", "seed=1"]))
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    torch.save({"model": model.state_dict()}, tmp_path / "batch.pt")
    found = start_from(tmp_path / "batch.pt", *norm, "norm.eps=1e-3", "norm.group_size=4")
    count = len(found.state_dict())
    assert f"{count} of {count} tensors taken\n" in capsys.readouterr().out
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(found.eval()(x), model.eval()(x), rtol=1e-4, atol=1e-4)


def averaged(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return torch.optim.swa_utils.AveragedModel(model).state_dict()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda model: torch.nn.DataParallel(model).state_dict(),
        lambda model: torch.compile(model).state_dict(),
        lambda model: torch.nn.DataParallel(torch.compile(model)).state_dict(),
        lambda model: torch.compile(torch.nn.DataParallel(model)).state_dict(),
        lambda model: setattr(model, "stem", torch.compile(model.stem)) or model.state_dict(),
        averaged,
    ],
    ids=["DataParallel", "compile", "both", "both the other way", "a part compiled", "AveragedModel"],
)
def test_weights_of_a_wrapped_network(tmp_path, wrapped, capsys):
    model = build_model(compose(["scale=smoke", "seed=1"]))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save({"model": wrapped(model)}, tmp_path / "wrapped.pt")
    found = start_from(tmp_path / "wrapped.pt").state_dict()
    assert all(value.equal(expected[name]) for name, value in found.items())
    assert f"{len(expected)} of {len(expected)} tensors taken\n" in capsys.readouterr().out


def test_a_part_of_the_network_may_be_called_module():
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = torch.nn.Linear(2, 2)

    names = ["module.weight", "module.bias"]
    for weights in (Wrapper().state_dict(), torch.nn.Linear(2, 2).state_dict(), torch.nn.DataParallel(Wrapper()).state_dict()):
        assert list(renamed(Wrapper(), weights)) == names
    assert renamed(Wrapper(), {}) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "damaged, or not written by torch.save"),
        (b"hello", "damaged, or not written by torch.save"),
        ({"weights": {}, "epoch": 3}, "has no key model, its keys are weights, epoch; save {'model': network.state_dict()}"),
        ([1, 2], "has no key model, it is a list; save"),
        ({"model": {"stem.weight": 3}}, "holds a int as stem.weight under model; they must be plain tensors"),
        ({"model": {7: torch.zeros(3)}}, "holds the int 7 as a name under model; they must be plain tensors by their names"),
        (
            {"model": {"stem.weight": torch.zeros(3, dtype=torch.complex64)}},
            "holds a complex tensor as stem.weight under model",
        ),
        (
            {"model": {"stem.weight": torch.empty(3, device="meta")}},
            "holds a meta tensor, without values, as stem.weight under",
        ),
        ({"model": None}, "holds a NoneType under model, not the state_dict of a network"),
        ({"model": print}, "holds the type print, which could be code and is refused; save tensors"),
        ({"model": os.system}, "holds the type posix.system, which could be code and is refused; save tensors"),
        (
            {"model": {}, "args": Path("a")},
            "holds the type pathlib.PosixPath, which could be code and is refused; save tensors",
        ),
    ],
    ids=str,
)
def test_errors_for_files_that_are_no_checkpoints(tmp_path, content, message):
    path = tmp_path / "no.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError) as error:
        start_from(path)
    assert str(error.value).startswith(f"init.checkpoint={path}: {message}") and "\n" not in str(error.value)


def test_a_pipe_and_a_device_without_an_end_are_no_checkpoints(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert file_digest(path) is None
        with pytest.raises(UserError, match=rf"{path}: a pipe or a device; name a file"):
            start_from(path)


def test_a_folder_and_a_truncated_file_are_no_checkpoints(tmp_path, checkpoint):
    with pytest.raises(UserError, match=r": a folder; name a file, such as checkpoints/last\.pt of a run$"):
        start_from(tmp_path)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"best\.pt: damaged, or not written by torch\.save$"):
        start_from(checkpoint)
    checkpoint.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    with pytest.raises(UserError, match=r"best\.pt: damaged, .* differs from its checksum$"):
        start_from(checkpoint)


def test_weights_of_another_network_are_an_error(checkpoint):
    with pytest.raises(UserError) as error:
        start_from(checkpoint, "model=alexnet_small", "dataset.num_classes=12")
    assert re.fullmatch(
        r"init\.checkpoint=\S+best\.pt: none of its weights fits this network \(of another shape: "
        r"classifier\.weight \(10, \d+\) instead of \(12, \d+\), classifier\.bias \(10,\) instead of \(12,\); "
        r"missing: features\..* and \d+ more; unknown: stages\..* and \d+ more\); take the same model",
        str(error.value),
    )


def test_a_checkpoint_must_be_named(call):
    result = call("train", "init=checkpoint")
    assert result.returncode == 1
    assert "\ninit.checkpoint=null: must be a file such as results/runs/RUN/checkpoints/best.pt\n" in result.stderr


def test_a_run_counts_the_weights_that_it_started_from_by_their_content(checkpoint, tmp_path, train):
    weights = tmp_path / "weights.pt"
    shutil.copy(checkpoint, weights)
    overrides = ("init=checkpoint", f"init.checkpoint={weights}")
    first = train(*overrides)
    assert OmegaConf.load(first / ".hydra" / "config.yaml").init.content == file_digest(weights)
    shutil.copy(weights, moved := tmp_path / "moved.pt")
    assert train("init=checkpoint", f"init.checkpoint={moved}") == first
    torch.save(torch.load(weights, weights_only=True) | {"more": 1}, weights)
    assert train(*overrides) != first
    with pytest.raises(
        UserError, match=r"weights\.pt: not the file that this run began with \(init\.content=0123456789abcdef\)"
    ):
        train(*overrides, "init.content=0123456789abcdef")


def test_a_folder_with_the_same_digits_and_another_configuration_is_refused(train):
    folder = train("norm=zca", "trainer.epochs=1")
    path = folder / ".hydra" / "config.yaml"
    config = OmegaConf.load(path)
    config.optimizer.lr = 0.5
    OmegaConf.save(config, path)
    with pytest.raises(UserError, match=r"holds a run with the same digits but another optimizer\.lr; move it away"):
        train("norm=zca", "trainer.epochs=1")
