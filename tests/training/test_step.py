"""A step of the trainer: parts of a batch, averaged weights, batches that are mixed."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2

from spectral_repro.layers.parametrizations import bounded_norm
from spectral_repro.training import Trainer, TrainerSettings
from spectral_repro.training.weights import WeightControl
from tests.tolerance import assert_near

IMAGES, LABELS = 23, 4


def data(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, 4, 4, generator=generator, dtype=dtype)
    return images, torch.randint(LABELS, (IMAGES,), generator=generator)


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, LABELS)).to(dtype)


def trainer(model: nn.Module, *, epochs: int = 4, penalty=None, batch_transform=None, **settings: object) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = data(next(model.parameters()).dtype)
    chosen = TrainerSettings(epochs=epochs, batch_size=IMAGES, **settings)
    control = WeightControl(model, penalty)
    return Trainer(model, optimizer, images, settings=chosen, weights=control, batch_transform=batch_transform)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("parts", [2, 5, 100])
def test_the_gradients_of_the_parts_add_up_to_that_of_the_batch(parts: int, reduction: str):
    """23 images in 2 and 5 parts of unequal size, and in one part for each image; the penalty counts once."""

    def penalty(model: nn.Module) -> torch.Tensor:
        return sum(parameter.square().sum() for parameter in model.parameters())

    made = [
        trainer(network(torch.float64), accumulate=accumulate, reduction=reduction, penalty=penalty, max_norm=3.0)
        for accumulate in (1, parts)
    ]
    for each in made:
        for _ in range(3):
            each.step(*data(torch.float64))
    whole, divided = made
    for expected, found in zip(whole.model.parameters(), divided.model.parameters(), strict=True):
        assert_near(found, expected, terms=IMAGES, dtype=torch.float64)
    assert_near(divided.state.sums, whole.state.sums, terms=IMAGES, dtype=torch.float64)
    assert_near(divided.state.extremes[0], whole.state.extremes[0], terms=IMAGES, dtype=torch.float64)


def test_statistics_are_those_of_a_part():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, LABELS))
    trainer(model, accumulate=2).step(*data())
    assert model[0].num_batches_tracked == 2


def test_the_average_of_the_weights_over_the_steps():
    """As torch's own average, buffers included."""
    decay, model = 0.7, nn.Sequential(nn.BatchNorm2d(3), *network()).double()
    made = trainer(model, ema_decay=decay)
    expected = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(5):
        made.step(*data(torch.float64))
        expected.update_parameters(model)
    found = made.state.ema.module.state_dict()
    assert found.pop("0.num_batches_tracked") == made.state.ema.steps == 5
    for name, average in found.items():
        assert_near(average, expected.module.state_dict()[name], terms=8, dtype=torch.float64)


def test_vectors_of_a_power_iteration_are_not_averaged():
    """The mean of unit vectors is shorter, and a weight divided by a norm along it is above its bound."""
    model = network()
    bounded_norm(model[0], 4, 0.5)
    made = trainer(model, ema_decay=0.9)
    for _ in range(5):
        made.step(*data())
    average = made.state.ema.module
    buffers = dict(model.named_buffers())
    assert buffers and all(torch.equal(buffer, buffers[name]) for name, buffer in average.named_buffers())
    assert not torch.equal(average[0].parametrizations.weight.original, model[0].parametrizations.weight.original)


def test_averaged_weights_are_also_evaluated():
    images = data()
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, LABELS))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    made = Trainer(model, optimizer, images, test=images, settings=TrainerSettings(epochs=3, ema_decay=0.5))
    row = made.train()[-1]
    for prefix, each in (("", made.model), ("ema_", made.state.ema.module)):
        with torch.no_grad():
            logits = each.eval()(images[0])
        assert row[f"{prefix}test_loss"] == pytest.approx(cross_entropy(logits, images[1]).item(), rel=1e-5)
        assert row[f"{prefix}test_accuracy"] == pytest.approx(100 * (logits.argmax(1) == images[1]).double().mean().item())
    assert row["test_loss"] != row["ema_test_loss"]


def mixed_batches(seed: int, steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the network gets in each step."""
    seen, model = [], network()
    mixup = v2.MixUp(alpha=1.0, num_classes=LABELS)

    def noting(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(mixup(images, labels))
        return seen[-1]

    made = trainer(model, seed=seed, batch_transform=noting)
    for _ in range(steps):
        made.step(*data())
    return seen


def test_random_numbers_of_a_batch_transform_depend_on_seed_and_step():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = mixed_batches(0, steps=3)
    torch.manual_seed(6)
    again, other = mixed_batches(0, steps=3), mixed_batches(1, steps=3)
    assert all(torch.equal(*pair) for one, two in zip(first, again, strict=True) for pair in zip(one, two, strict=True))
    shares = {images[0, 0, 0, 0].item() for images, _ in (*first, *other)}
    assert len(shares) == 6, "every step has a share of its own"
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before)
    network()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    mixed_batches(0, steps=1)
    assert torch.equal(torch.get_rng_state(), after), "torch's generator is left as it was"


def test_the_loss_of_a_mixed_batch_is_that_of_its_two_halves():
    images, labels = data(torch.float64)
    share = 0.3
    blended = share * images + (1 - share) * images.roll(1, 0)
    one_hot = torch.nn.functional.one_hot(labels, LABELS).double()
    targets = share * one_hot + (1 - share) * one_hot.roll(1, 0)
    model = network(torch.float64)
    with torch.no_grad():
        logits = model(blended)
    expected = share * cross_entropy(logits, labels) + (1 - share) * cross_entropy(logits, labels.roll(1))
    made = trainer(model, batch_transform=lambda images, labels: (blended, targets))
    made.step(images, labels)
    loss, correct, count = made.state.sums.tolist()
    assert loss / count == pytest.approx(expected.item(), rel=1e-12) and count == IMAGES
    assert correct == (logits.argmax(1) == labels.roll(1)).sum().item(), "the larger share is the class"
