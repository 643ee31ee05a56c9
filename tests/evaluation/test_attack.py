import logging
import sys
from itertools import pairwise

import pyautoattack
import pytest
import torch
from torch import nn

from spectral_repro.errors import UserError
from spectral_repro.evaluation.attack import AutoAttack, Normalised, attack
from spectral_repro.evaluation.certificates import certificates
from spectral_repro.layers import SOC
from spectral_repro.layers.conversion import convert
from spectral_repro.models.lipconvnet import LipConvnet
from tests.tolerance import assert_near


@pytest.fixture
def first_attack_alone(monkeypatch):
    """The standard ensemble with its first attack only, APGD on the cross-entropy."""

    def shorter(self: pyautoattack.AutoAttack, version: str) -> None:
        assert version == "standard"
        self.attacks_to_run, self.apgd.n_restarts = ["apgd-ce"], 1

    monkeypatch.setattr(pyautoattack.AutoAttack, "_set_version", shorter)


def orthogonal_network(*channels: int) -> nn.Module:
    """1-Lipschitz: orthonormal layers and cuts."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(channels):
        layers += [nn.Linear(inputs, outputs), nn.Hardtanh(-0.5, 0.5)]
        nn.init.orthogonal_(layers[-2].weight)
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def images_of(network: nn.Module, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 1, 8, 8) in [0, 1], a third of them with another label than the network's."""
    images = torch.rand(count, 1, 8, 8)
    labels = network(images).argmax(1)
    labels[::3] = (labels[::3] + 1) % 10
    return images, labels


def test_a_run_in_units_of_pixels(digits_run, restored, first_attack_alone):
    trained = restored(digits_run)
    found = AutoAttack(epsilon=0.25, images=20, version="standard")(trained)
    assert found["images"] == 20 and found["conditions"] == "L2 0.25, standard, 20 images"
    assert 0 <= found["robust_accuracy"] < found["clean_accuracy"] <= 100
    assert 0 < found["largest_perturbation"] <= 0.25 + 1e-6
    assert AutoAttack(epsilon=0.25, images=20, version="standard")(trained) == found, "the seed is fixed"
    weak = AutoAttack(epsilon=1e-6, images=20, version="standard")(trained)
    assert weak["robust_accuracy"] == weak["clean_accuracy"] == found["clean_accuracy"]


def test_normalised_takes_pixels(digits_run, restored):
    trained = restored(digits_run)
    network = Normalised(trained.model, list(trained.config.dataset.mean), list(trained.config.dataset.std))
    assert_near(network(trained.images.test.images / 255), trained.predictions[0], terms=8 * 9 * 64)


def test_warnings_of_the_attack_are_recorded(digits_run, restored, first_attack_alone, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger("auto-attack"), "disabled", True)  # as a configuration of logging leaves it
    trained = restored(digits_run)
    trained.model.register_forward_hook(lambda module, inputs, output: output.softmax(1))
    (warning,) = AutoAttack(epsilon=0.1, images=4, version="standard")(trained)["warnings"]
    assert "probability distribution" in warning
    assert capfd.readouterr() == ("", "")


def test_images_and_a_network_in_channels_last(first_attack_alone):
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 10, 16), nn.Flatten())
    network, images = (each.to(memory_format=torch.channels_last) for each in (network, torch.rand(4, 3, 16, 16)))
    clean, robust, _ = attack(network, images, network(images).argmax(1), 2.0, "standard", batch_size=4)
    assert clean.all() and not robust.all()


def test_few_classes(digits_run, restored):
    trained = restored(digits_run)
    trained.config.dataset.num_classes = 3
    with pytest.raises(UserError, match="4 classes or more, and this network has 3"):
        AutoAttack(epsilon=0.5, images=4, version="standard")(trained)


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(UserError, match=r"pyautoattack is not installed; pip install 'spectral-repro\[robust\]'"):
        AutoAttack(epsilon=0.5, images=4, version="standard")


@pytest.mark.slow
def test_no_certificate_of_a_lipconvnet_is_broken_by_its_first_attack(first_attack_alone):
    torch.manual_seed(0)
    network = convert(LipConvnet(1, width=2, image_size=8, in_channels=1), SOC).eval().requires_grad_(False)
    images, labels = images_of(network, 24)
    radius = certificates(network(images), labels, network.lipschitz)
    epsilon = radius.median().item()
    clean, robust, _ = attack(network, images, labels, epsilon, "standard", batch_size=24)
    assert (clean == (radius > 0)).all()
    assert robust[radius > epsilon].all(), "certified and broken all the same"
    assert (radius > epsilon).any() and (clean & ~robust).any(), "an attack too weak to tell anything"


@pytest.mark.slow
def test_no_certified_image_is_broken():
    torch.manual_seed(0)
    network = orthogonal_network(64, 64, 10)
    images, labels = images_of(network, 24)
    radius = certificates(network(images), labels, lipschitz=1.0)
    epsilon = radius.median().item()
    clean, robust, distance = attack(network, images, labels, epsilon, "standard", batch_size=24)
    assert (clean == (radius > 0)).all() and (distance <= epsilon * (1 + 1e-5)).all()
    assert robust[radius > epsilon].all(), "certified and broken all the same"
    assert (radius > epsilon).any() and (clean & ~robust).any(), "an attack too weak to tell anything"
