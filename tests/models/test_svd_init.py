"""Initial weights from the SVD of a layer's inputs: published numbers, formulas, layers that keep Xavier weights."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from spectral_repro.models import svd_init
from spectral_repro.models.init import patches_seen, xavier
from spectral_repro.models.svd_init import gram_ratio, svd
from tests.golden_numbers import EVERY_SEED, golden_numbers
from tests.tolerance import assert_near, tolerance


class Network(nn.Module):
    """Any layers, flattened features, a classifier."""

    def __init__(self, *layers: nn.Module, classifier: nn.Module | None = None):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*layers, nn.Flatten()), classifier or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def inputs_and_outputs(model: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    seen = []
    with layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].clone(), output.clone()))):
        model(images)
    return seen[0]


def weight_by_svd(rows: Tensor, channels: int, exponent: float) -> Tensor:
    u, s, vh = torch.linalg.svd(rows.double(), full_matrices=False)
    return u[:channels, :channels] * s[:channels] ** -exponent @ vh[:channels]


@EVERY_SEED
def test_agrees_with_the_published_code(monkeypatch, capsys, seed):
    golden = golden_numbers("daneshmand2021_svd_init", seed)
    first = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
    second, third = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
    model = Network(first, nn.MaxPool2d(2), nn.ReLU(inplace=True), second, nn.ReLU(), third, nn.ReLU()).double()

    def published_weights(model: nn.Module, first_images: object) -> None:
        for number, layer in enumerate((first, second, third), 1):
            layer.weight.copy_(golden[f"conv{number}_weight_before"])

    monkeypatch.setattr(svd_init, "xavier", published_weights)
    with torch.no_grad():
        published_weights(model, None)
        before = gram_ratio(model(golden["images"][:40])).item()
    svd(model, lambda number: golden["images"][:number], images=40)
    for number, layer in ((2, second), (3, third)):
        assert_near(layer.weight.detach(), golden[f"conv{number}_weight"], terms=1000, condition=100)
    features = model(golden["images"]).detach()
    assert_near(features, golden["features"].flatten(1), terms=1000, condition=100)
    assert_near(gram_ratio(features), golden["gram_ratio"], terms=1000, condition=100)
    printed = capsys.readouterr().out
    ratios = re.search(r"2 layers from the SVD of their inputs on 40 images: Gram ratio (0\.\d{4}), then (0\.\d{4})", printed)
    assert [float(ratio) for ratio in ratios.groups()] == pytest.approx([before, golden["gram_ratio"].item()], abs=0.51e-4)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "options", [{"padding": "same", "dilation": 2}, {"padding": (1, 2), "stride": 2}, {"padding": "valid"}]
)
def test_patches_times_kernel_are_the_convolution(options: dict, mode: str):
    convolution, x = nn.Conv2d(3, 4, 3, bias=False, padding_mode=mode, **options), torch.randn(2, 3, 8, 8)
    expected = convolution(x).flatten(2)
    assert_near(convolution.weight.flatten(1) @ patches_seen(convolution, x), expected, terms=27)


def test_a_layer_used_twice_is_fitted_to_its_first_inputs_and_a_frozen_one_is_kept():
    shared, frozen = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1).requires_grad_(False)
    model, images, before = Network(shared, frozen, shared), torch.rand(9, 4, 8, 8), frozen.weight.clone()
    svd(model, lambda number: images, images=9)
    assert shared(images).norm().item() == pytest.approx(1, rel=tolerance(torch.float32, images.numel()))
    assert torch.equal(frozen.weight, before)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, (1, 3), padding=(0, 2), dilation=2)])
def test_the_patches_are_those_of_the_convolution(layer: nn.Conv2d):
    torch.manual_seed(0)
    model, images = Network(nn.Conv2d(3, 4, 1), nn.ReLU(), layer).to(memory_format=torch.channels_last), torch.rand(9, 3, 8, 8)
    svd(model, lambda number: images, images=9)
    x, y = inputs_and_outputs(model, layer, images)
    patches = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT.flatten(0, 1)
    expected = weight_by_svd(patches, 4, 0.5)
    expected /= (patches.double() @ expected.mT).norm()
    condition = torch.linalg.cond(patches).item()
    assert_near(layer.weight.detach().flatten(1), expected, patches.numel(), condition)
    assert y.norm().item() == pytest.approx(1, rel=tolerance(torch.float32, patches.numel()))


def test_outputs_can_have_a_standard_deviation_of_1():
    """The same direction of the weights, another length."""
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
    model, weights = Network(first, nn.BatchNorm2d(4), nn.ReLU(), second), {}
    torch.manual_seed(0)
    images = torch.rand(16, 3, 8, 8)
    for unit in ("norm", "std"):
        torch.manual_seed(1)
        svd(model, lambda number: images, images=16, unit=unit)
        weights[unit] = second.weight.detach().flatten()
    _, y = inputs_and_outputs(model, second, images)
    assert y.std().item() == pytest.approx(1, rel=tolerance(torch.float32, images.numel()))
    assert torch.cosine_similarity(weights["norm"], weights["std"], dim=0).item() == pytest.approx(1, rel=1e-5)


def test_linear_layers_put_out_singular_vectors():
    """X W^T = U U[:C]^T / sqrt(C): the representations span what they did, with equal singular values."""
    torch.manual_seed(0)
    hidden, images = nn.Linear(12, 12), torch.rand(36, 1, 4, 4)
    model = Network(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), hidden)
    svd(model, lambda number: images, images=36, layers="linear")
    x, y = inputs_and_outputs(model, hidden, images)
    expected = weight_by_svd(x, 12, 1.0)
    expected /= (x.double() @ expected.mT).norm()
    condition = torch.linalg.cond(x).item()
    assert_near(hidden.weight.detach(), expected, x.numel(), condition)
    u = torch.linalg.svd(x.double(), full_matrices=False).U
    assert_near(y.detach(), u @ u[:12].mT / u[:12].norm(), x.numel(), condition)


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.classifier = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(input=self.hidden(input=x.flatten(1)))


def test_inputs_by_keyword_are_seen():
    torch.manual_seed(0)
    model, images = ByKeyword(), torch.rand(36, 1, 3, 4)
    svd(model, lambda number: images, images=36, layers="linear")
    norm = model.hidden(images.flatten(1)).norm().item()
    assert norm == pytest.approx(1, rel=tolerance(torch.float32, images.numel()))


@pytest.mark.parametrize(
    ("layers", "changed"),
    [("conv", {"features.1"}), ("linear", {"classifier.1"}), ("all", {"features.1", "classifier.1"})],
)
def test_only_square_layers_of_the_kind_leave_xavier(layers: str, changed: set[str]):
    classifier = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 5))
    model = Network(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.AdaptiveAvgPool2d(2), classifier=classifier
    )
    torch.manual_seed(1)
    xavier(model, lambda number: None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    svd(model, lambda number: torch.rand(number, 3, 8, 8), images=10, layers=layers)
    after = model.state_dict()
    assert {name.removesuffix(".weight") for name in after if not torch.equal(before[name], after[name])} == changed
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_ratio_is_1_for_one_direction_and_smallest_for_orthonormal_features():
    torch.manual_seed(0)
    direction = torch.rand(3, 4, 2)
    assert gram_ratio(torch.rand(8, 1, 1, 1) * direction).item() == pytest.approx(1)
    assert gram_ratio(torch.eye(8)[:5]).item() == pytest.approx(5**-0.5)
    features = torch.rand(6, 10, dtype=torch.float64)
    gram = features.mT @ features
    assert gram_ratio(features).item() == pytest.approx((gram.norm() / gram.trace()).item())


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (Network(nn.Conv2d(3, 6, 3)), torch.rand(4, 3, 5, 5), "layers=conv: no such layer"),
        (Network(nn.Conv2d(3, 3, 5)), torch.rand(2, 3, 5, 5), "images=2: only 2 inputs for 3 channels"),
        (Network(nn.Conv2d(3, 3, 3)), torch.zeros(4, 3, 5, 5), "images=4: the outputs of a layer of 3 channels are all zero"),
    ],
)
def test_what_cannot_be_done_is_refused(model: nn.Module, images: Tensor, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        svd(model, lambda number: images, images=len(images))
    assert not any(module._forward_pre_hooks for module in model.modules())
