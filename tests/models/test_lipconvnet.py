"""LipConvnet: its layers, and its Lipschitz constant measured."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spectral_repro.layers import SOC, SOTT, convert, orthogonal_penalty
from spectral_repro.models import lipconvnet5, lipconvnet20, lipconvnet30

BUILDS = {5: lipconvnet5, 20: lipconvnet20, 30: lipconvnet30}


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("depth", BUILDS)
def test_layers(depth: int):
    """n layers in five groups, the last of each strided and twice as wide; then the classifier."""
    with torch.device("meta"):
        network = BUILDS[depth](num_classes=7)
    *features, classifier = convolutions(network)
    block_size = depth // 5
    assert len(features) == depth
    assert [conv.out_channels for conv in features[block_size - 1 :: block_size]] == [64, 128, 256, 512, 1024]
    assert all(
        conv.out_channels == 32 * 2 ** (index // block_size) for index, conv in enumerate(features) if (index + 1) % block_size
    )
    assert [index for index, conv in enumerate(features, 1) if conv.stride == (2, 2)] == [
        block_size * group for group in range(1, 6)
    ]
    assert [index for index, conv in enumerate(features, 1) if conv.kernel_size == (1, 1)] == [depth]
    assert (classifier.in_channels, classifier.out_channels, classifier.kernel_size) == (1024, 7, (1, 1))


@pytest.mark.parametrize("size", [8, 12, 32, 64])
@pytest.mark.parametrize("layer", [SOC, SOTT])
def test_any_image_size(layer, size: int):
    options = {"rank": 2} if layer is SOTT else {}
    network = convert(
        lipconvnet5(num_classes=3, in_channels=1, width=2, image_size=size), layer, keep_weights=False, **options
    ).eval()
    assert network(torch.rand(2, 1, size, size)).shape == (2, 3)


def jacobian_norm(network: nn.Module, image: torch.Tensor) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image)
    return torch.linalg.matrix_norm(jacobian.flatten(1), 2).item()


@pytest.mark.parametrize(("build", "layer"), [(lipconvnet5, SOC), (lipconvnet20, SOC), (lipconvnet5, SOTT)])
def test_the_lipschitz_constant_after_training(build, layer):
    """Norms of dense Jacobians at random images, and quotients of differences, are below the bound."""
    torch.manual_seed(0)
    options = {"rank": 32} if layer is SOTT else {}
    network = convert(build(in_channels=1, width=2, image_size=8), layer, keep_weights=False, **options).double()
    images, labels = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(cross_entropy(network(images), labels))
        (losses[-1] + 5000 * orthogonal_penalty(network)).backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    network.eval()
    with torch.no_grad():
        logits, others = network(images), network(images.flip(0))
    quotients = (logits - others).norm(dim=1) / (images - images.flip(0)).flatten(1).norm(dim=1)
    norms = [jacobian_norm(network, image) for image in images[:2]]
    bound = network.lipschitz
    assert 0.3 < max(norms) <= bound and quotients.max() <= bound
    assert bound < (1 + 1e-3 if layer is SOC else 1.5)


def test_plain_convolutions_promise_no_bound():
    assert not hasattr(lipconvnet5(width=2), "lipschitz")


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match=r"^width=3: must be even"):
        lipconvnet5(width=3)
