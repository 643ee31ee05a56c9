import pytest
import torch
from torch import nn

from spectral_repro.errors import UserError
from spectral_repro.evaluation.certificates import Certificates, certificates, certified_accuracy
from spectral_repro.evaluation.trained import Trained
from tests.golden_numbers import EVERY_SEED, golden_numbers


@EVERY_SEED
def test_as_published_code_computes_it(seed):
    golden = golden_numbers("senderovich2022_metrics", seed)
    radius = certificates(golden["logits"], golden["labels"], float(golden["lipschitz"]))
    assert radius[radius > 0].mean().item() == pytest.approx(golden["mean_certificate"].item(), abs=1e-5)
    assert certified_accuracy(radius, 36 / 255) == pytest.approx(100 * golden["certified_accuracy_36_255"].item(), abs=1e-5)


def test_never_farther_than_the_boundary_of_a_linear_network():
    """Whose distance to class k is (z_y - z_k) / |w_y - w_k|; orthogonal rows reach the bound."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 12, dtype=torch.float64, generator=generator)
    images = torch.randn(200, 12, dtype=torch.float64, generator=generator)
    for rows, reached in ((weight / torch.linalg.matrix_norm(weight, 2), False), (torch.linalg.qr(weight.T)[0].T, True)):
        logits = images @ rows.T
        labels = logits.argmax(1)
        steps = (rows[labels][:, None] - rows).norm(dim=2)
        distance = ((logits.amax(1, keepdim=True) - logits) / steps).nan_to_num(torch.inf).amin(1)
        radius = certificates(logits, labels, lipschitz=1.0)
        assert (radius > 0).all() and (radius <= distance * (1 + 1e-12)).all()
        assert torch.allclose(radius, distance) == reached


def test_wrong_classes_have_no_certificate():
    radius = certificates(torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.tensor([0, 1]), 2.0)
    assert radius.tolist() == pytest.approx([-(2**-0.5), 2**-0.5]) and certified_accuracy(radius, 0) == 50


class Bounded(nn.Module):
    """Twice the orthonormal vectors nearest to the means of the classes: a network with a known Lipschitz constant."""

    lipschitz = 2.0

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        super().__init__()
        pixels = images.flatten(1).float()
        means = torch.stack([pixels[labels == label].mean(0) for label in range(10)], 1)
        u, _, vh = torch.linalg.svd(means - means.mean(1, keepdim=True), full_matrices=False)
        self.register_buffer("weight", 2 * u @ vh)

    def forward(self, x):
        return x.flatten(1) @ self.weight


def test_certificates_of_a_run_in_units_of_pixels(digits_run, restored):
    trained = restored(digits_run)
    test = trained.images.test
    trained = Trained(trained.config, Bounded(test.images, test.labels), trained.images, trained.device)
    found = Certificates(radii=[0, 36, 51])(trained)
    assert found["lipschitz"] == pytest.approx(2 / 0.3756)
    radius = certificates(*trained.predictions, found["lipschitz"])
    assert found["curve"]["radii"] == [0, 36 / 255, 0.2]
    assert found["curve"]["accuracy"] == [certified_accuracy(radius, at) for at in (0, 36 / 255, 0.2)]
    assert found["certified_accuracy"] == found["curve"]["accuracy"][1]
    assert 0 < (radius > 0).sum() < len(radius)
    assert found["mean_certificate"] == pytest.approx(radius[radius > 0].mean().item())


def test_a_network_without_a_bound_is_named(digits_run, restored):
    with pytest.raises(UserError, match=r"^no Lipschitz constant of AlexNet is known; .*LipConvnet"):
        Certificates(radii=[0])(restored(digits_run))
