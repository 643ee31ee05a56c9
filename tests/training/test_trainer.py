"""Metrics and logs of a training, in every precision."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError
from spectral_repro.layers import whitening
from spectral_repro.linalg import matrix_function


def test_tensorboard_scalars(train):
    events = EventAccumulator(str(train("norm=zca", "trainer.log_every=2")))
    events.Reload()
    scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert {"train/loss", "train/accuracy", "train/learning_rate", "train/images_per_second"} <= scalars.keys()
    assert {"test/loss", "test/accuracy"} <= scalars.keys()
    assert len(scalars["train/loss"]) == 4
    spectra = {}
    for kind in ("mean", "min"):
        names = [f"spectrum/stem_norm/{name}_{kind}" for name in ("largest", "smallest", "effective_rank")]
        largest, smallest, rank = spectra[kind] = [scalars[name] for name in names]
        assert len(largest) == 2
        assert largest[-1] > smallest[-1] > 0
        assert 1 <= rank[-1] <= 16
    assert all(mean >= least for pair in zip(*spectra.values(), strict=True) for mean, least in zip(*pair, strict=True))
    assert len(scalars["train/gradient_norm"]) == len(scalars["train/smallest_gap"]) == 4


def test_no_step_has_a_learning_rate_of_zero(train):
    """Each has that of its middle, in a warm-up and in a decay; milestones are those of whole steps."""
    for schedule, expected in {
        "schedule=cosine schedule.warmup=0.5": [1 / 8, 3 / 8, 5 / 8, 7 / 8, 0.96194, 0.69134, 0.30866, 0.03806],
        "schedule=step schedule.every=1/4": [1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3],
    }.items():
        options = ("model=alexnet_small", "optimizer.lr=1e-3", "trainer.epochs=2", "trainer.log_every=1")
        events = EventAccumulator(str(train(*schedule.split(), *options)))
        events.Reload()
        rates = [event.value for event in events.Scalars("train/learning_rate")]
        assert rates == pytest.approx([1e-3 * each for each in expected], rel=1e-3)


def test_extremes_of_every_epoch(train, monkeypatch):
    """Gradient norms and gaps noted step by step by another way."""
    norms, gaps, step = [], [], torch.optim.SGD.step

    def noting_step(optimizer, *arguments, **options):
        gradients = [p.grad.double().flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return step(optimizer, *arguments, **options)

    def noting_function(matrix, *arguments, **options):
        result, eigenvalues = matrix_function(matrix, *arguments, **options)
        values = torch.linalg.eigvalsh(matrix.detach()).flip(-1) + options["shift"]
        gaps.append(min(((a - b) / a).min().item() for a, b in zip(values[:, :-1], values[:, 1:], strict=True)))
        return result, eigenvalues

    monkeypatch.setattr(torch.optim.SGD, "step", noting_step)
    monkeypatch.setattr(whitening, "matrix_function", noting_function)
    rows = pd.read_csv(train("norm=zca_published", "norm.group_size=8", "trainer.epochs=2") / "metrics.csv")
    steps = len(norms) // 2
    assert steps == 4
    for epoch in range(2):
        here = slice(epoch * steps, (epoch + 1) * steps)
        assert rows["largest_gradient"][epoch] == pytest.approx(max(norms[here]), rel=1e-5)
        assert rows["smallest_gap"][epoch] == pytest.approx(min(gaps[here]), rel=1e-3)
    assert (rows["step_time"] * steps / 1000).sum() == pytest.approx(rows["seconds"].iloc[-1])


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_long_gradient_is_shortened_and_a_short_one_left(train, monkeypatch, precision: str):
    gradients, step = [], torch.optim.SGD.step

    def noting_step(optimizer, *arguments, **options):
        gradients.append(torch.cat([p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]))
        return step(optimizer, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", noting_step)
    options = ("trainer.epochs=1", "dataset.train_images=32", "dataset.batch_size=4", f"precision={precision}", "logger=none")
    train(*options)
    free = gradients.copy()  # in float16 without the first steps, which overflow
    first, longest = free[0].norm().item(), max(gradient.norm().item() for gradient in free)

    gradients.clear()
    rows = pd.read_csv(train(*options, "gradient_clipping=norm", f"gradient_clipping.max_norm={first / 4}") / "metrics.csv")
    torch.testing.assert_close(gradients[0], free[0] / 4, rtol=1e-4, atol=1e-7)
    assert all(gradient.norm().item() <= 1.0001 * first / 4 for gradient in gradients)
    assert rows["largest_gradient"][0] >= 0.9999 * first  # before it is shortened

    gradients.clear()
    train(*options, "gradient_clipping=norm", f"gradient_clipping.max_norm={2 * longest}")
    assert len(gradients) == len(free) and all(map(torch.equal, gradients, free))


def test_a_summed_loss_is_the_mean_at_another_learning_rate(train):
    """4 images a batch, 30 in all: the last batch has 2, whose gradient the sum weighs half as much."""
    options = ("trainer.epochs=1", "dataset.batch_size=4", "logger=none", "optimizer.weight_decay=0", "loss=cross_entropy")
    runs = [
        pd.read_csv(train(*options, f"dataset.train_images={count}", *more) / "metrics.csv")["train_loss"][0]
        for count in (32, 30)
        for more in (("optimizer.lr=0.1",), ("optimizer.lr=0.025", "loss.reduction=sum"))
    ]
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)
    assert runs[2] == pytest.approx(runs[3], rel=1e-4), "the loss of a batch is before its step"


def test_label_smoothing_counts_in_training_alone(train):
    def losses(smoothing: float) -> pd.Series:
        options = ("trainer.epochs=1", "logger=none", "optimizer.lr=1e-9", "loss=cross_entropy")
        return pd.read_csv(train(*options, f"loss.label_smoothing={smoothing}") / "metrics.csv").iloc[0]

    plain, smooth, uniform = losses(0), losses(0.5), losses(1)
    assert smooth["train_loss"] == pytest.approx((plain["train_loss"] + uniform["train_loss"]) / 2, rel=1e-4)
    assert smooth["test_loss"] == pytest.approx(plain["test_loss"], rel=1e-4)


def test_only_networks_with_a_covariance_have_a_gap(train):
    assert "smallest_gap" not in pd.read_csv(train("norm=batch", "trainer.epochs=1") / "metrics.csv")


@pytest.mark.parametrize(
    "options",
    [
        ("precision=bfloat16",),
        ("precision=float16", "optimizer=adamw", "optimizer.fused=true"),
        ("trainer.channels_last=false",),
    ],
)
def test_every_precision_and_layout_trains(train, options: tuple[str, ...]):
    assert json.loads((train("norm=zca", *options) / "summary.json").read_text())["state"] == "finished"


def first_loss(run: Path) -> float:
    return json.loads((run / "summary.json").read_text())["final"]["train_loss"]


def test_layouts_agree(train):
    losses = [first_loss(train("norm=zca", f"trainer.channels_last={on}", "trainer.epochs=1")) for on in ("true", "false")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_settings_of_torch_are_those_of_the_run(train):
    def settings(*options: str) -> tuple[str, bool]:
        train("norm=batch", "trainer.epochs=1", "logger=none", *options)
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    try:
        assert settings("trainer.matmul_precision=high", "trainer.cudnn_benchmark=true") == ("high", True)
    finally:
        assert settings() == ("highest", False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs the compiler g++ here")
@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own insides
def test_compiled_training_agrees(train):
    modes = ("false", "true", "reduce-overhead")
    plain, *compiled = [first_loss(train("norm=zca", f"trainer.compile={mode}", "trainer.epochs=1")) for mode in modes]
    assert compiled == pytest.approx([plain, plain], rel=1e-3)


def test_the_mode_of_compilation_is_given_to_torch(train, monkeypatch):
    given = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: given.append(options))
    for chosen in ("true", "max-autotune"):
        folder = train("norm=batch", "trainer.epochs=1", "logger=none", f"trainer.compile={chosen}")
    assert given == [{"dynamic": False, "mode": None}, {"dynamic": False, "mode": "max-autotune"}]
    assert "  compile: max-autotune\n" in (folder / ".hydra" / "config.yaml").read_text()


def test_wrong_modes_of_compilation_are_named():
    with pytest.raises(UserError, match=r"trainer\.compile=fast: must be true or false, or reduce-overhead, max-autotune or "):
        check(compose(["trainer.compile=fast"]))
    with pytest.raises(UserError, match=r"trainer\.compile=reduce-overhead, trainer\.accumulate=2: with CUDA graphs each part"):
        check(compose(["trainer.compile=reduce-overhead", "trainer.accumulate=2"]))


def test_statistics_are_recalibrated_before_every_evaluation(train):
    folder = train("norm=zca", "trainer.epochs=2", "trainer.recalibrate_batches=2")
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]
    counts = {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")}
    assert counts == {2}
