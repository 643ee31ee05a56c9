"""The trainer in Python, with any network, optimiser and data."""

import math
import signal
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from spectral_repro.optim.schedules import Cosine
from spectral_repro.training import Trainer, TrainerSettings
from spectral_repro.training.divergence import Diverged
from spectral_repro.training.recording import Recorder
from spectral_repro.training.state import TrainingState


def points(count: int = 40) -> tuple[Tensor, Tensor]:
    """Two classes on either side of a line."""
    inputs = torch.randn(count, 2, generator=torch.Generator().manual_seed(3))
    return inputs, (inputs.sum(1) > 0).long()


def made(data: object, recorder: Recorder | None = None, **settings: object) -> Trainer:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    chosen = TrainerSettings(**{"epochs": 4, "batch_size": 16} | settings)
    return Trainer(network, optimizer, data, test=points(16), settings=chosen, schedule=Cosine(), recorder=recorder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.zeros(8, 2), torch.zeros(7)), r"expected inputs and labels of one length, .* got tensors of \[8, 7\]"),
        ((torch.zeros(0, 2), torch.zeros(0)), r"expected inputs and labels of one length, at least one of each"),
        ((torch.zeros(8, 2),), r"expected inputs and labels of one length"),
        ((torch.zeros(8, 2).numpy(), torch.zeros(8)), "expected a pair of tensors, got ndarray, Tensor"),
        ([torch.zeros(8, 2), torch.zeros(8)], "expected a pair of tensors, a DataLoader or Batches, got list"),
        (DataLoader(TensorDataset(torch.zeros(8, 2), torch.zeros(8)), 9, drop_last=True), "the data make no batch"),
    ],
)
def test_data_that_are_no_batches_are_refused(data, message):
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for splits in ({"train": data}, {"train": points(), "test": data}):
        with pytest.raises((TypeError, ValueError), match=message):
            Trainer(network, optimizer, **splits, settings=TrainerSettings(epochs=1))


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(points()[0])


INPUTS, LABELS = points()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            TensorDataset(INPUTS, LABELS, LABELS),
            r"^expected batches \(inputs, labels\) .* got 3 parts: Tensor, Tensor, Tensor$",
        ),
        ([{"x": x} for x in INPUTS], r"^expected batches \(inputs, labels\) from the data loader, got dict$"),
        ([("a", 1)], r"got 2 parts: tuple, Tensor$"),
        (INPUTS, r"got Tensor$"),
        (Stream(), r"^the number of batches must be known: give the dataset of the loader a length"),
    ],
)
def test_batches_of_another_kind_are_named(data, message):
    with pytest.raises(TypeError, match=message):
        made(DataLoader(data, batch_size=4)).train()


def test_a_schedule_of_torch_is_named():
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for schedule in (StepLR(optimizer, 1), StepLR, Cosine):
        with pytest.raises(TypeError, match=r"^schedule: must be a function of the completed fraction .*Cosine\(\), got \w+$"):
            Trainer(network, optimizer, points(), settings=TrainerSettings(epochs=1), schedule=schedule)


def test_tensors_and_a_loader_of_them_are_the_same():
    """Shuffled alike in each epoch, whatever else draws from torch's generator."""
    rows = made(points()).train()
    loader = DataLoader(TensorDataset(*points()), batch_size=16, shuffle=True)
    torch.rand(7)
    again = made(loader).train()
    deciding = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate")
    assert [[row[key] for key in deciding] for row in rows] == [[row[key] for key in deciding] for row in again]
    assert rows[-1]["train_accuracy"] > 90 and len(rows) == 4


@pytest.mark.parametrize("own_generator", [False, True])
def test_a_loader_is_read_in_another_order_in_each_epoch_and_from_any_batch_on(own_generator: bool):
    inputs = torch.arange(20.0)[:, None].expand(-1, 2)
    generator = torch.Generator() if own_generator else None
    loader = DataLoader(TensorDataset(inputs, torch.arange(20) % 2), batch_size=8, shuffle=True, generator=generator)
    batches = made(loader).train_batches

    def order(epoch: int, start: int = 0) -> list[float]:
        return torch.cat([inputs[:, 0] for inputs, _ in batches.epoch(epoch, start)]).tolist()

    before = torch.get_rng_state()
    first = order(0)
    assert sorted(first) == list(range(20)) and first == order(0) and first[8:] == order(0, start=1)
    assert order(1) != first and torch.equal(torch.get_rng_state(), before)


class Keeping(Recorder):
    """Keeps the state after a number of steps and stops there; continues from a state."""

    def __init__(self, state: dict[str, object] | None = None):
        self.state, self.bests = state, []

    def restore(self, state: TrainingState) -> bool:
        if self.state:
            state.load_state_dict(self.state)
        return self.state is not None

    def save(self, state: TrainingState) -> None:
        self.state = state.snapshot()
        raise KeyboardInterrupt

    def finish_epoch(self, state: TrainingState, best: dict[str, float], is_best: bool) -> None:
        self.bests.append((best and best["epoch"], is_best))


def test_a_training_resumes_from_the_state_of_its_recorder():
    loader = DataLoader(TensorDataset(*points()), batch_size=16, shuffle=True)
    whole = made(loader, ema_decay=0.9)
    whole.train()
    recorder = Keeping()
    with pytest.raises(KeyboardInterrupt):
        made(loader, recorder, checkpoint_every=5, ema_decay=0.9).train()
    assert recorder.state["step"] == 5
    rest = made(loader, Keeping(recorder.state), ema_decay=0.9)
    rest.train()
    for one, other in ((whole.model, rest.model), (whole.state.ema.module, rest.state.ema.module)):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_the_best_epoch_is_that_of_the_validation_data():
    recorder = Keeping()
    trainer = Trainer(
        (model := nn.Linear(2, 2)),
        torch.optim.SGD(model.parameters(), lr=0.1),
        points(),
        validation=points(24),
        settings=TrainerSettings(epochs=3, evaluate_every=2),
        recorder=recorder,
    )
    rows = trainer.train()
    evaluated = [row for row in rows if "validation_accuracy" in row]
    assert [row["epoch"] for row in evaluated] == [2, 3] and not any("test_accuracy" in row for row in rows)
    best = max(evaluated, key=lambda row: row["validation_accuracy"])
    assert recorder.bests[0] == (None, False) and recorder.bests[-1][0] == best["epoch"]


def test_a_divergence_names_the_layer():
    class Exploding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.inf

    model = nn.Sequential(nn.Linear(2, 2), Exploding())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(Diverged, match="diverged at step 0, not finite: first the output of 1"):
        Trainer(model, optimizer, points(), settings=TrainerSettings(epochs=1)).train()


@pytest.mark.parametrize("log_every", [1, 2, 50])
def test_a_divergence_names_the_step_however_often_the_loss_is_checked(log_every: int):
    class Breaking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                x.register_hook(lambda gradient: gradient * torch.nan)
            return x

    model = nn.Sequential(nn.Linear(2, 2), Breaking())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = TrainerSettings(epochs=1, batch_size=8, log_every=log_every)
    with pytest.raises(Diverged, match="diverged at step 0, not finite: first the gradient of bias of 0"):
        Trainer(model, optimizer, points(), settings=settings).train()


def test_a_trainer_can_be_used_after_an_interrupt():
    def interrupted(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        signal.raise_signal(signal.SIGINT)
        return images, labels

    model, settings = nn.Linear(2, 2), TrainerSettings(epochs=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, optimizer, points(), test=points(), settings=settings, batch_transform=interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.evaluate().keys() == {"test_loss", "test_accuracy"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0: must be a whole number >= 1"),
        ({"epochs": 1, "ema_decay": 1}, "ema_decay=1: must be a number > 0 and < 1, or null"),
        ({"epochs": 1, "precision": "half"}, "precision=half: must be float32, bfloat16 or float16"),
        ({"epochs": 1, "label_smoothing": 2}, "label_smoothing=2: must be a number >= 0 and <= 1"),
    ],
)
def test_settings_say_what_they_may_be(settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        TrainerSettings(**settings)


def test_weights_that_are_not_finite_can_be_evaluated_before_a_training():
    network, images = nn.Linear(8, 2), torch.ones(4, 8)
    nn.init.constant_(network.weight, float("nan"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    data = images, torch.arange(4) % 2
    trainer = Trainer(network, optimizer, data, test=data, settings=TrainerSettings(epochs=1))
    assert math.isnan(trainer.evaluate()["test_loss"])
