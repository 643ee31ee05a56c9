"""A network with a layer of every kind: from batch norm and convolutions, by training, to ONNX."""

from collections.abc import Callable

import onnxruntime
import torch
from torch import Tensor, nn

from spectral_repro import layers
from spectral_repro.layers import convert, orthogonal_penalty, recalibrate
from spectral_repro.linalg.backward import NewtonSchulz
from spectral_repro.optim import sgdg
from tests.every_class import BASES

POOLINGS: list[Callable[[int], nn.Module]] = [
    layers.AveragePooling,
    layers.MaxPooling,
    layers.BilinearPooling,
    lambda channels: layers.CompactBilinearPooling(channels, out_features=20),
    lambda channels: layers.CovariancePooling(channels, backward=NewtonSchulz(5, "newton_schulz")),
]
# ONNX has no eigendecomposition, which this pooling takes of every image
WITHOUT_ONNX = {"ScalingEigenBranch"}


class Network(nn.Module):
    """Of torch's layers alone but for MinMax and the poolings."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.orthogonal = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), layers.MinMax())
        self.narrow = nn.Conv2d(8, 8, 3, padding=1)
        self.last_norm = nn.BatchNorm2d(8)
        self.poolings = nn.ModuleList([make(8) for make in POOLINGS])
        self.classifier = nn.Linear(sum(pooling.out_features for pooling in self.poolings), 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last_norm(self.narrow(self.orthogonal(self.body(self.stem(x)))))
        return self.classifier(torch.cat([pooling(x) for pooling in self.poolings], 1))


def converted(network: Network) -> Network:
    convert(network.stem, layers.ZCAWhitening)
    convert(network.body, layers.ZCAWhitening)
    convert(network.body, layers.TTConv2d, rank=8)
    convert(network.orthogonal, layers.SOC, keep_weights=False)
    network.narrow = convert(network.narrow, layers.SOTT, rank=6, keep_weights=False)
    network.last_norm = convert(network.last_norm, layers.PCADenoising, components=6)
    return network


def test_from_batch_norm_by_training_to_onnx():
    network, images, labels = Network(), torch.randn(32, 3, 8, 8), torch.arange(32) % 10
    with torch.no_grad():  # statistics and weights of a batch norm that has been trained
        network(images)
        before = network.eval().body(network.stem(images))
    network = converted(network.train())
    with torch.no_grad():
        torch.testing.assert_close(network.eval().body(network.stem(images)), before, rtol=1e-4, atol=1e-4)
    made = {type(module).__name__ for module in network.modules()}
    every = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)} - {"Replacement"} - BASES
    assert every - made == WITHOUT_ONNX

    optimizer, losses = sgdg(network.parameters(), network.train(), lr=0.05, lrg=0.05), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels) + 0.1 * orthogonal_penalty(network)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    recalibrate(network, [images])
    other = torch.randn(5, 3, 8, 8)
    expected = network.eval()(other).detach()
    batch = {0: torch.export.Dim("batch", min=2)}
    program = torch.onnx.export(network, (images,), dynamo=True, dynamic_shapes=(batch,), verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
