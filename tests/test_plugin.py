"""examples/plugin: methods and a paper in a user's folder, used as its README says."""

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
from collections.abc import Callable

import pytest
import torch

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import CONF, OWN_FOLDERS
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError
from spectral_repro.reporting.papers import published

PLUGIN = CONF.parent / "examples" / "plugin"
PACKAGES = (
    *("constraints", "data", "evaluation", "layers", "linalg", "linalg.backward", "models", "optim", "studies", "training"),
)
OF_ONE_MODULE = {"Block", "CorruptedImages", "MixedOptimizer", "SpectralFunction"}  # bases for the classes beside them alone
QUICKLY = ("scale=smoke", "trainer.threads=1", "device=cpu")


@pytest.fixture
def run(call, monkeypatch) -> Callable[..., subprocess.CompletedProcess]:
    """Runs a command with the plugin on the path, within an empty folder."""
    monkeypatch.syspath_prepend(PLUGIN)
    monkeypatch.setenv("SPECTRAL_REPRO_TARGETS", "ridge")
    return lambda name, *arguments: call(name, "--config-dir", str(PLUGIN / "conf"), *arguments)


def test_its_paper_is_swept_reported_judged_and_evaluated(run, tmp_path):
    swept = run("train", "-m", "paper=example2026", "seed=0", *QUICKLY)
    assert swept.returncode == 0, swept.stderr
    assert "Launching 3 jobs" in swept.stdout and len(list(tmp_path.glob("results/runs/*/summary.json"))) == 3

    reported = run("report", "paper=example2026", "out=out")
    assert reported.returncode == 0, reported.stderr
    assert not reported.stderr
    table = "\n".join(path.read_text() for path in (tmp_path / "out").glob("digits*.md"))
    assert all(f"| {label} " in table for label in ("Batch norm", "Ridge", "Ridge, signs"))
    assert "Whitening with a ridge does not lose to batch norm" in (tmp_path / "out" / "index.html").read_text()

    evaluated = run("evaluate", "runs=results/runs", "metrics=[accuracy]")
    assert evaluated.returncode == 0, evaluated.stderr
    folder = next(tmp_path.glob("results/runs/*ridge_sign*"))
    assert 0 <= json.loads((folder / "evaluation.json").read_text())["accuracy"]["accuracy"] <= 100


def test_the_site_has_its_paper(monkeypatch):
    monkeypatch.setenv(OWN_FOLDERS, str(PLUGIN / "conf"))
    assert "example2026" in published()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["norm=ridge", "norm.ridge=0"], "norm.ridge=0: must be a number > 0"),
        (
            ["norm=ridge", "+norm.rigde=1"],
            "norm.rigde: ridge.RidgeWhitening has no such argument; it takes num_features, ridge,",
        ),
        (["optimizer=sign", "optimizer.lr=fast"], "optimizer.lr=fast: must be a number > 0"),
        (["norm=zca", "backward=damped", "backward.width=-1"], "backward.width=-1: must be a number > 0"),
        (["norm=rigde"], "Could not find 'norm/rigde'"),
        (["experiment=example2026/none"], "example2026/ridge_sign"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_its_keys_are_checked(run, arguments: list[str], message: str):
    result = run("train", *arguments, *QUICKLY)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr


MINE = """
import torch
from torch import nn
from spectral_repro.data import ImageData, Split


class Tiny(nn.Sequential):
    def __init__(self, num_classes: int, in_channels: int, width: int, norm=nn.BatchNorm2d):
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
        super().__init__(nn.Conv2d(in_channels, width, 3), norm(width), *head)


def stripes(image_size: int) -> ImageData:
    labels = torch.arange(48) % 2
    images = 255 * (torch.arange(image_size) % (2 + labels[:, None, None, None]) == 0).expand(-1, 3, image_size, -1)
    return ImageData(train=Split(images.byte()[:32], labels[:32]), test=Split(images.byte()[32:], labels[32:]))
"""


def test_a_network_and_a_data_set_of_ones_own(train, tmp_path, monkeypatch):
    """As docs/extending.md says."""
    (tmp_path / "mine.py").write_text(MINE)
    for group in ("model", "dataset"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    network = "_target_: mine.Tiny\nnum_classes: ${dataset.num_classes}\nin_channels: ${dataset.channels}\nwidth: 16\n"
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text(network)
    keys, _ = (CONF / "dataset" / "random.yaml").read_text().split("\nload:")
    (tmp_path / "conf" / "dataset" / "stripes.yaml").write_text(
        f"{keys}\nload:\n  _target_: mine.stripes\n  image_size: ${{..image_size}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SPECTRAL_REPRO_TARGETS", "mine")
    monkeypatch.setenv(OWN_FOLDERS, str(tmp_path / "conf"))
    chosen = ("model=tiny", "dataset=stripes", "norm=zca", "norm.group_size=4", "logger=none")
    for scale in ("cpu", "smoke"):
        check(compose([f"scale={scale}", *chosen]))
    assert json.loads((train(*chosen) / "summary.json").read_text())["state"] == "finished"
    with pytest.raises(UserError, match=r"^dataset\.mean, dataset\.flip: missing; every run needs them$"):
        check(compose([*chosen, "~dataset.mean", "~dataset.flip"]))


def test_a_module_that_is_not_trusted_is_refused(run, monkeypatch):
    monkeypatch.setenv("SPECTRAL_REPRO_TARGETS", "")
    result = run("train", "norm=ridge", *QUICKLY)
    assert result.returncode == 1 and "ridge.RidgeWhitening: must be in spectral_repro, " in result.stderr


def test_a_folder_that_does_not_exist(call):
    result = call("train", "--config-dir", "nowhere")
    assert (result.returncode, result.stderr) == (1, "--config-dir nowhere: no such folder\n")


def test_its_options_are_listed_and_completed(run, monkeypatch):
    listed = run("train", "--help").stdout
    assert "example2026/ridge_sign" in listed and "ridge" in next(x for x in listed.splitlines() if x.startswith("norm:"))
    line = f"spectral-repro-train --config-dir {PLUGIN / 'conf'} experiment=example2026/r"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    completed = run("train", "--shell-completion", "query=bash")
    assert completed.stdout.split() == ["experiment=example2026/ridge", "experiment=example2026/ridge_sign"]


def test_the_layer_whitens(monkeypatch):
    monkeypatch.syspath_prepend(PLUGIN)
    from ridge import Damped, RidgeWhitening

    x = torch.randn(64, 4, 3, 3) @ torch.randn(3, 3)
    y = RidgeWhitening(4, ridge=1e-6, backward=Damped())(x)
    found = y.movedim(1, -1).flatten(0, -2).T.cov(correction=0)
    torch.testing.assert_close(found, torch.eye(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("package", PACKAGES)
def test_base_classes_are_importable_from_their_package(package: str):
    """Classes that have a subclass, are abstract or are protocols: what a user's class is derived from."""
    public = importlib.import_module(f"spectral_repro.{package}")
    bases = set()
    for each in pkgutil.iter_modules(public.__path__, f"{public.__name__}."):
        module = importlib.import_module(each.name)
        own = [found for _, found in inspect.getmembers(module, inspect.isclass) if found.__module__ == module.__name__]
        abstract = [found for found in own if inspect.isabstract(found) or getattr(found, "_is_protocol", False)]
        bases |= {found.__name__ for found in (*abstract, *(found for found in own if found.__subclasses__()))}
    assert {base for base in bases if not base.startswith("_")} - OF_ONE_MODULE <= set(public.__all__)


def test_the_plugin_needs_no_deep_import():
    tree = ast.parse((PLUGIN / "ridge.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported = {name.removeprefix("spectral_repro.") for name in imported if name.startswith("spectral_repro")}
    assert imported and imported <= {*PACKAGES, "bounds"}
