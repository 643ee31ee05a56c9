"""A configuration can only build objects of this project, torch and torchvision."""

import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.targets import TRUSTED, check_file, instantiate, locate
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_model


@pytest.mark.parametrize(
    "name",
    [
        "torch.hub.load",
        "torch.load",
        "os.system",
        "builtins.eval",
        "torch.nn.modules.module.torch.hub.load",
        "spectral_repro.data.cifar.pickle.loads",
        "spectral_repro.training.environment.subprocess.run",
        "torchvision.datasets.utils.extract_archive",
        "torch.nnn.Linear",
        "torch.nn.NoSuchLayer",
        "",
        None,
        3,
    ],
)
def test_other_targets_are_refused(name: object):
    for key, config in (("norm._target_", {"norm": {"_target_": name}}), ("a.0._target_", {"a": [{"_target_": name}]})):
        with pytest.raises(UserError) as error:
            instantiate(OmegaConf.create(config))
        assert key in str(error.value) and str(name) in str(error.value)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "spectral_repro.models.resnet18",
        "torch.nn.BatchNorm2d",
        "torch.optim.lr_scheduler.StepLR",
        "torchvision.models.resnet18",
        "torchvision.transforms.v2.Resize",
    ],
)
def test_allowed_targets(name: str):
    assert callable(locate(name, "norm._target_"))


def test_targets_trusted_by_the_user(monkeypatch):
    config = OmegaConf.create({"_target_": "fractions.Fraction", "numerator": 1, "denominator": 2})
    with pytest.raises(UserError, match=f"the environment variable {TRUSTED} names"):
        instantiate(config)
    monkeypatch.setenv(TRUSTED, "mine:fractions")
    assert instantiate(config) == 0.5


@pytest.mark.parametrize(
    "content",
    [
        {"hydra": {"callbacks": {"mine": {"_target_": "torch.hub.load", "repo_or_dir": "a/b"}}}},
        {"hydra": {"job_logging": {"handlers": {"mine": {"class": "torch.hub.load"}}}}},
        {"hydra": {"job_logging": {"formatters": {"mine": {"()": "torch.hub.load"}}}}},
        {"norm": {"_target_": "${oc.env:NAME}"}},
    ],
)
def test_files_are_checked_before_hydra_uses_them(content: dict):
    with pytest.raises(UserError, match=r"^stranger\.yaml: "):
        check_file(content, "stranger.yaml")


def test_files_in_a_folder_of_the_user_are_checked(command, tmp_path):
    (tmp_path / "options" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra: {callbacks: {mine: {_target_: torch.hub.load, repo_or_dir: a/b, model: c}}}\n"
    (tmp_path / "options" / "experiment" / "stranger.yaml").write_text(text)
    result = command("train", "--config-dir", "options", "experiment=stranger", "scale=smoke")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert (
        "experiment/stranger.yaml: hydra.callbacks.mine._target_=torch.hub.load: must be in spectral_repro, " in result.stderr
    )


def test_the_configuration_of_a_checkpoint_is_checked():
    config = compose(["scale=smoke"])
    config.model["_target_"] = "torch.hub.load"
    with pytest.raises(UserError, match=r"^model\._target_=torch\.hub\.load: must be in"):
        build_model(config)
