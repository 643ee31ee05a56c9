import json

import pytest
import torch
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.evaluation.accuracy import Accuracy
from spectral_repro.evaluation.trained import restore
from spectral_repro.training.build import build_model
from tests.tolerance import assert_near

CPU = torch.device("cpu")


def test_the_network_is_the_one_that_was_trained(digits_run, restored):
    final = json.loads((digits_run / "summary.json").read_text())["final"]
    for batch_size in (None, 7):
        found = Accuracy()(restored(digits_run, batch_size=batch_size))
        assert found["accuracy"] == pytest.approx(final["test_accuracy"])
        assert found["top5_accuracy"] == pytest.approx(final["test_top5_accuracy"])
        assert found["images"] == 50


def test_in_the_precision_of_the_training(digits_run, restored):
    trained = restored(digits_run)
    assert trained.exact_predictions is trained.predictions
    trained = restored(digits_run)
    trained.config.precision = "bfloat16"
    (rough, _), (exact, _) = trained.predictions, trained.exact_predictions
    assert not torch.equal(rough, exact) and rough.dtype == exact.dtype == torch.float32
    assert_near(rough, exact, terms=8, dtype=torch.bfloat16)  # layers in a row, each rounded


@pytest.fixture
def saved(digits_run, tmp_path):
    """Saves the run's checkpoint with changes."""

    def save(**changes: object):
        content = torch.load(digits_run / "checkpoints" / "last.pt", weights_only=True)
        torch.save({"model": content["model"], "config": content["config"]} | changes, tmp_path / "own.pt")
        return tmp_path / "own.pt", content["config"]

    return save


def test_a_checkpoint_of_ones_own_is_weights_and_config(saved, digits_run, restored):
    path, _ = saved()
    assert torch.equal(restore(path, CPU).predictions[0], restored(digits_run).predictions[0])


def test_nothing_of_the_beginning_of_a_run_is_done_again(saved):
    _, config = saved()
    init = {"_target_": "spectral_repro.training.init.FromCheckpoint", "checkpoint": "gone.pt"}
    path, _ = saved(config=config | {"init": init})
    assert len(restore(path, CPU).predictions[1]) == 50


def test_the_data_may_lie_elsewhere(saved, tmp_path):
    config = compose(["scale=smoke", "dataset=cifar10", "model=alexnet_small", "dataset.root=gone"])
    weights = build_model(config).state_dict()
    path, _ = saved(config=OmegaConf.to_container(config, resolve=True), model=weights)
    with pytest.raises(UserError, match=f"{tmp_path}/cifar-10-batches-py is missing or empty and dataset.download=false"):
        restore(path, CPU, dataset={"root": str(tmp_path), "download": False})


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "own.pt"
    if content is None:
        torch.save({"weights": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"own\.pt: cannot be read as a checkpoint with weights under model and their config"):
        restore(path, CPU)
    with pytest.raises(UserError, match=r"none\.pt: no such file"):
        restore(tmp_path / "none.pt", CPU)


def test_weights_of_another_network_are_named(saved):
    _, config = saved()
    config["model"]["width"] = 5
    path, _ = saved(config=config)
    with pytest.raises(UserError, match=r"own\.pt: its weights are not those of the network that its config describes"):
        restore(path, CPU)
