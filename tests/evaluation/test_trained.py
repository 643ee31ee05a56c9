import csv
import json

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch.nn.functional import cross_entropy

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.evaluation import load_trained
from spectral_repro.evaluation.accuracy import Accuracy
from spectral_repro.evaluation.record import Record
from spectral_repro.evaluation.trained import restore
from spectral_repro.training.build import build_model
from spectral_repro.training.step import hybrids
from tests.tolerance import assert_near

CPU = torch.device("cpu")
WHOLE = {"dataset": {}, "trainer": {}, "precision": "float32", "seed": 0}  # of a configuration, but for the model


def test_the_network_is_the_one_that_was_trained(digits_run, restored):
    final = json.loads((digits_run / "summary.json").read_text())["final"]
    for batch_size in (None, 7):
        found = Accuracy()(restored(digits_run, batch_size=batch_size))
        assert found["accuracy"] == pytest.approx(final["test_accuracy"])
        assert found["top5_accuracy"] == pytest.approx(final["test_top5_accuracy"])
        assert found["images"] == 50


def test_predictions_in_the_precision_of_the_training(digits_run, restored):
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


def test_the_average_of_the_weights(saved, digits_run):
    content = torch.load(digits_run / "checkpoints" / "last.pt", weights_only=True)
    ema = {name: value / 2 if value.is_floating_point() else value for name, value in content["model"].items()}
    path, _ = saved(ema=ema)
    for weights, expected in (("model", content["model"]), ("ema", ema)):
        found = load_trained(path, weights=weights).network.state_dict()
        assert all(value.equal(expected[name]) for name, value in found.items())
    assert torch.equal(restore(path, CPU, weights="ema").predictions[0], restore(saved(model=ema)[0], CPU).predictions[0])
    with pytest.raises(
        UserError, match=r"own\.pt: has no average of the weights, which trainer\.ema_decay makes; take weights="
    ):
        load_trained(saved()[0], weights="ema")
    with pytest.raises(UserError, match=r"own\.pt: holds a list under ema, not the state_dict of a network"):
        load_trained(saved(ema=[1])[0])


def test_initial_weights_are_not_loaded_again(saved):
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "damaged, or not written by torch.save"),
        ({"weights": {}}, "has no key model, its keys are weights"),
        ({"model": {}}, r"has no model\._target_ under config, the configuration of its training"),
        ({"model": {}, "config": "model: {}"}, r"has no model\._target_ under config"),
        ({"model": {}, "config": {"model": {"_target_": "os.system"}, "dataset": {}}}, "has no trainer under config"),
        (
            {"model": {}, "config": WHOLE | {"model": {"_target_": "os.system"}}},
            r"the network of its config cannot be built .*model\._target_=os",
        ),
        (
            {"model": {}, "config": WHOLE | {"model": {"_target_": "torch.nn.Linear"}}},
            "the network of its config cannot be built .*in_features",
        ),
    ],
)
def test_errors_for_files_that_are_no_checkpoints(tmp_path, content, message):
    path = tmp_path / "own.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=rf"own\.pt: {message}"):
        restore(path, CPU)
    with pytest.raises(UserError, match=r"none\.pt: no such file"):
        restore(tmp_path / "none.pt", CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": "abc"}, "class_names must be a list of strings"),
        ({"trainer": 3}, "has no trainer under config, the configuration of its training"),
        ({"seed": "${x}"}, r"its config cannot be read \(Interpolation key 'x' not found\)"),
        ({"precision": "float8"}, "under config, precision=float8: must be float32, bfloat16 or float16"),
        ({"dataset.mean": "x"}, "under config, dataset.mean=x: must be a list, each a number"),
        ({"dataset.num_classes": 3}, "under config, model.num_classes=10: must be dataset.num_classes=3"),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_one_of_a_training_is_named(saved, change, message):
    _, config = saved()
    names = {"class_names": change.pop("class_names")} if "class_names" in change else {}
    for key, value in change.items():
        *parents, last = key.split(".")
        (config[parents[0]] if parents else config)[last] = value
    path, _ = saved(config=config, **names)
    for read in (lambda: restore(path, CPU), lambda: load_trained(path)):
        with pytest.raises(UserError, match=rf"own\.pt: {message}"):
            read()


def test_weights_of_another_network_are_named(saved):
    _, config = saved()
    config["model"]["width"] = 5
    path, _ = saved(config=config)
    fault = r"its weights are not those of the network that its config describes \(of another shape: features\.0\.weight \("
    with pytest.raises(UserError, match=rf"own\.pt: {fault}"):
        restore(path, CPU)


def test_weights_of_a_wrapped_network(saved, digits_run, restored):
    _, config = saved()
    network = build_model(OmegaConf.create(config))
    network.load_state_dict(torch.load(digits_run / "checkpoints" / "last.pt", weights_only=True)["model"])
    path, _ = saved(model=torch.nn.DataParallel(torch.compile(network)).state_dict())
    assert torch.equal(restore(path, CPU).predictions[0], restored(digits_run).predictions[0])


def test_images_of_other_classes_are_refused(saved):
    path, _ = saved(class_names=[f"digit {number}" for number in range(10)])
    message = r"was trained on the classes digit 0, .* and 6 more, but the images are of 0, 1, 2, 3 and 6 more$"
    with pytest.raises(UserError, match=message):
        restore(path, CPU)


# In Python


def test_a_trained_network_in_python(digits_run, restored):
    """The logits of the evaluation, from images as tensors and as PIL has them."""
    network, transforms, class_names = load_trained(digits_run)
    assert not network.training and class_names == tuple("0123456789")
    trained = restored(digits_run)
    expected, _ = trained.predictions
    images = trained.images.test.images
    with torch.no_grad():
        found = network(transforms(images))
        one = network(transforms(Image.fromarray(images[3, 0].numpy()))[None])
    assert_near(found, expected, terms=64)
    assert_near(one[0], expected[3], terms=64)
    assert found.dtype == torch.float32 and transforms(images[0]).shape == (1, 8, 8)


def test_its_checkpoint_can_be_chosen_and_named(digits_run, saved):
    best = load_trained(str(digits_run), checkpoint="best").network.state_dict()
    expected = torch.load(digits_run / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert all(torch.equal(best[name], value) for name, value in expected.items())
    path, _ = saved()
    assert load_trained(path).class_names == tuple("0123456789")  # without names in it, the numbers
    with pytest.raises(UserError, match=r"nowhere: no such file or folder; runs are made by"):
        load_trained("nowhere")


def test_a_data_set_that_the_config_does_not_describe(saved):
    _, config = saved()
    del config["dataset"]["mean"]
    path, _ = saved(config=config)
    with pytest.raises(UserError, match=r"own\.pt: its config cannot be read \(.*mean"):
        load_trained(path)


HYBRID = ("model=alexnet_small", "pooling=gcp", "backward=hybrid", "trainer.epochs=2", "logger=none", "trainer.ema_decay=0.5")


@pytest.mark.parametrize("weights", ["model", "ema"])
@pytest.mark.parametrize(("switch", "method"), [(0.5, "second"), (0.9, "first")])
def test_a_hybrid_gradient_is_the_one_of_the_last_step(train, switch: float, method: str, weights: str):
    """Newton-Schulz and the SVD give different features, so the evaluation needs the method of the training."""
    run = train(*HYBRID, f"backward.switch={switch}")
    with (run / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    logits, labels = restore(run / "checkpoints" / "last.pt", CPU, weights=weights).predictions
    loss = float(row["test_loss" if weights == "model" else "ema_test_loss"])
    assert cross_entropy(logits, labels).item() == pytest.approx(loss, rel=1e-5)
    (hybrid,) = hybrids(load_trained(run, weights=weights).network)
    assert hybrid.current == getattr(hybrid, method)


def test_two_evaluations_at_once_keep_both_measurements(tmp_path):
    entry = {"conditions": "", "settings": {"checkpoint": "last.pt"}}
    first, second = (Record(tmp_path / "evaluation.json") for _ in range(2))
    second.add("corruptions", entry)
    first.add("autoattack", entry)
    assert Record(tmp_path / "evaluation.json").entries == {"corruptions": entry, "autoattack": entry}
