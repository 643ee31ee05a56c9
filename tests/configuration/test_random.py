"""Random configurations and inputs: they train, or are refused in one line.

By default some of them are tried, with ``-m slow`` the 500 and 100.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from spectral_repro import train
from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten
from spectral_repro.configuration.rules import check
from spectral_repro.training.execute import execute

SMALL = (
    *("dataset.train_images=4", "dataset.test_images=4", "dataset.batch_size=4", "dataset.download=false", "model.width=4"),
    *("trainer.epochs=1", "trainer.threads=1", "logger=none", "device=cpu", "dataset.root=nowhere"),
)
GROUPS = ("norm", "pooling", "conv", "backward", "optimizer", "gradient_clipping", "schedule", "init", "finetune")
MORE = ("loss", "param_groups", "constraint", "penalty", "spectra")
DATASETS = (*("digits", "random") * 8, *options("dataset"))

chosen = st.fixed_dictionaries(
    {"model": st.sampled_from(options("model")), "dataset": st.sampled_from(DATASETS)},
    optional={group: st.sampled_from([*options(group), "null"]) for group in (*GROUPS, *MORE)}
    | {"precision": st.sampled_from(["float32", "bfloat16", "float16"]), "trainer.channels_last": st.booleans()},
)
WITH_EVERYTHING = (
    *(
        "norm=zca",
        "pooling=gcp",
        "conv=tt",
        "backward=hybrid",
        "gradient_clipping=norm",
        "constraint=clip",
        "penalty=orthogonal",
    ),
    *("spectra=largest", "dataset=cifar10", "dataset.root=nowhere", "dataset.download=false", "trainer.threads=1"),
)
keys = sorted(key for key in flatten(compose(WITH_EVERYTHING)) if not key.startswith("logger") and "._" not in key)
values = st.sampled_from(
    ["x", "-1", "0", "1e999", "nan", "null", "[]", "[1,x]", "{a:1}", "''", "true", "0.5", "9" * 30, "../x"]
)


def try_combination(choice: dict[str, object], results: Path) -> None:
    overrides = [*(f"{key}={value}" for key, value in choice.items()), *SMALL, f"results_dir={results}"]
    if choice["dataset"] == "random":
        overrides.append("dataset.image_size=16")
    try:
        config = compose(overrides)
        check(config)
        execute(config, "random", overrides)
    except (CompactHydraException, OmegaConfBaseException) as error:  # what the commands print without a traceback
        assert 10 < len(str(error)) < 600 and len(str(error).splitlines()) <= 5, f"{overrides}: {error}"
    except Exception as error:
        raise AssertionError(" ".join(overrides)) from error


@settings(max_examples=15)
@given(choice=chosen)
def test_combinations_of_groups(tmp_path, choice: dict[str, object]):
    try_combination(choice, tmp_path)


@pytest.mark.slow
@settings(max_examples=500)
@given(choice=chosen)
def test_500_combinations_of_groups(tmp_path, choice: dict[str, object]):
    try_combination(choice, tmp_path)


@pytest.fixture
def refusal(monkeypatch, capfd) -> Callable[..., str]:
    """What the command, run within this process, says on stderr of arguments that it refuses."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as leaving:
            train.main()
        message = capfd.readouterr().err
        assert leaving.value.code not in (0, None) and "Traceback" not in message, f"{arguments}: {message}"
        assert 10 < len(message) < 3000, f"{arguments}: {message}"
        return message

    return run


@settings(max_examples=8)
@given(key=st.sampled_from(keys), value=values)
def test_malformed_values(refusal, tmp_path, key: str, value: str):
    refusal(*WITH_EVERYTHING, f"results_dir={tmp_path}", f"{key}={value}")


@pytest.mark.slow
@settings(max_examples=100)
@given(key=st.sampled_from(keys), value=values)
def test_100_malformed_values(refusal, tmp_path, key: str, value: str):
    refusal(*WITH_EVERYTHING, f"results_dir={tmp_path}", f"{key}={value}")


@pytest.mark.parametrize("content", ["cut", "empty", "text", "folder", "no class", "no folder"])
def test_malformed_images(refusal, tmp_path, content: str):
    root = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (9, 9), "red").save(root / split / name / "1.png")
    image = root / "train" / "b" / "1.png"
    whole = image.read_bytes()
    image.unlink()
    if content == "folder":
        image.mkdir()
    elif content in ("cut", "empty", "text"):
        image.write_bytes({"cut": whole[:50], "empty": b"", "text": b"not an image"}[content])
    place = tmp_path / "elsewhere" if content == "no folder" else root
    sizes = (
        "dataset.num_classes=2",
        "dataset.image_size=9",
        "dataset.crop_padding=0",
        "dataset.batch_size=2",
        "dataset.workers=0",
    )
    message = refusal(
        "dataset=image_folder", f"dataset.root={place}", *sizes, "scale=smoke", f"results_dir={tmp_path / 'runs'}"
    )
    assert str(place) in message and not list(tmp_path.glob("runs/*/"))
