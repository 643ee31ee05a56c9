"""What TensorBoard shows besides scalars."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from spectral_repro.configuration.compose import compose
from spectral_repro.data.batches import Batches
from spectral_repro.data.images import Split
from spectral_repro.training.execute import execute


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    small = [
        "norm=zca_pi",
        "norm.group_size=16",
        "scale=smoke",
        "trainer.log_every=1",
        f"results_dir={root}",
    ]
    execute(compose(small), "test", small)
    (folder,) = root.glob("test-*")
    return folder


@pytest.fixture(scope="module")
def events(run) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"images": 0, "histograms": 0, "tensors": 0}).Reload()


def hyperparameters(events: EventAccumulator, tag: str) -> HParamsPluginData:
    return HParamsPluginData.FromString(events.summary_metadata[f"_hparams_/{tag}"].plugin_data.content)


def test_hyperparameters_with_the_final_metrics(run, events):
    values = hyperparameters(events, "session_start_info").session_start_info.hparams
    assert values["norm.backward._target_"].string_value == "spectral_repro.linalg.backward.PowerIteration"
    assert (values["optimizer.lr"].number_value, values["trainer.compile"].bool_value) == (0.1, False)
    assert values["dataset.mean"].string_value.startswith("[")
    named = {info.name.tag for info in hyperparameters(events, "experiment").experiment.metric_infos}
    assert {"test/accuracy", "test/loss", "train/loss"} <= named <= set(events.Tags()["scalars"])
    final = json.loads((run / "summary.json").read_text())["final"]
    assert events.Scalars("test/accuracy")[-1].value == pytest.approx(final["test_accuracy"])


def test_the_configuration_as_text(events):
    (text,) = events.Tensors("config/text_summary")
    written = text.tensor_proto.string_val[0].decode()
    assert all(line in written for line in ("group_size: 16", "seed: 0", "name: smoke")), written


def test_gradients_and_gaps_of_steps_lie_within_the_extremes_of_their_epoch(run, events):
    frame = pd.read_csv(run / "metrics.csv")
    tags = ("train/gradient_norm", "train/smallest_gap")
    norms, gaps = (torch.tensor([event.value for event in events.Scalars(tag)]).view(2, -1) for tag in tags)
    assert norms.amax(1).tolist() == pytest.approx(frame["largest_gradient"].tolist())
    assert gaps.amin(1).tolist() == pytest.approx(frame["smallest_gap"].tolist())


def test_images_and_histograms(events):
    (image,) = events.Images("train/augmented_images")
    assert (image.step, image.height, image.width) == (0, 2 * 64, 8 * 64), "16 images of 8 pixels, magnified"
    histograms = events.Histograms("log10_eigenvalues/stem_norm")
    assert [each.step for each in histograms] == [4, 8] and histograms[0].histogram_value.num == 64


def test_pictures_are_the_images_before_they_were_normalised():
    pixels = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)
    batches = Batches(Split(pixels, torch.zeros(6, dtype=torch.long)), 6, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4], shuffle=False)
    ((images, _),) = batches.epoch(0)
    torch.testing.assert_close(batches.as_pictures(images)[..., ::8, ::8], pixels / 255)
