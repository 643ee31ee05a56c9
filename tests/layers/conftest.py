"""Images in every layout, and one training step, for the tests of the covariance layers."""

import pytest
import torch

LAYOUTS = {
    "flat": lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]),
    "contiguous": torch.Tensor.contiguous,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS.keys())
def layout(request):
    """Maps images (N, C, H, W) to the same in another layout: (N H W, C), (N, C, H, W) or that in channels_last memory."""
    return request.param


@pytest.fixture
def images():
    """Makes float64 images whose channels are correlated, of different scales and away from zero."""

    def make(channels: int, batch: int = 8, size: int = 5, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        mixing = torch.eye(channels) + 0.5 * torch.randn(channels, channels, generator=generator) / channels**0.5
        scales = torch.linspace(0.5, 2, channels)[:, None]
        noise = torch.randn(batch, channels, size * size, generator=generator)
        means = 3 * torch.randn(channels, 1, generator=generator)
        return (scales * (mixing @ noise) + means).view(batch, channels, size, size).double()

    return make


@pytest.fixture
def step():
    """Runs a layer forward and backward: its output, and the gradient of its input for a random incoming gradient."""

    def run(layer: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.detach().requires_grad_()
        y = layer(x)
        draw = torch.randn(y.shape, dtype=torch.float32, generator=torch.Generator().manual_seed(1))
        y.backward(torch.empty_like(y).copy_(draw))
        return y.detach(), x.grad

    return run


@pytest.fixture
def operator():
    """Makes the dense matrix of a layer that is linear, or affine, from images of one size: outputs x inputs."""

    def make(layer: torch.nn.Module, channels: int, size: int) -> torch.Tensor:
        count = channels * size * size
        images = torch.cat([torch.zeros(1, count), torch.eye(count)]).double().view(-1, channels, size, size)
        with torch.no_grad():
            columns = layer(images).flatten(1)
        return (columns[1:] - columns[0]).mT

    return make
