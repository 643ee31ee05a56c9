"""Small examples of everything public, for tests that hold for all of it. A new class needs an entry here."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn

from spectral_repro import constraints, layers, linalg
from spectral_repro.layers import parametrizations
from spectral_repro.linalg import backward

# at least one of every class of spectral_repro.linalg.backward
METHODS: dict[str, backward.Backward] = {
    "AutogradSVD": backward.AutogradSVD(),
    "Exact": backward.Exact(),
    "Hybrid": backward.Hybrid(backward.NewtonSchulz(3), backward.Exact()),
    "Lyapunov": backward.Lyapunov(3),
    "Lyapunov of Pade's root": backward.Lyapunov(3, "mpa"),
    "NewtonSchulz": backward.NewtonSchulz(3),
    "NewtonSchulz in both passes": backward.NewtonSchulz(3, "newton_schulz"),
    "Pade": backward.Pade(50),
    "PlainSVD": backward.PlainSVD(),
    "PowerIteration": backward.PowerIteration(9),
    "Taylor": backward.Taylor(9),
    "TopN": backward.TopN(4),
    "Truncated": backward.Truncated(1e6),
    "UnrolledPowerIteration": backward.UnrolledPowerIteration(3),
}

# classes to derive from, which compute nothing by themselves
BASES = {"Backward", "Constraint", "CovarianceNorm", "Gapped", "Kernel", "Operator", "Pooling", "ThroughEigenvectors", "Tucker"}


class Penalised(nn.Module):
    """A network whose output is the penalty of its frames, whatever it is given."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(layers.TTConv2d(8, 8, 3, rank=4), layers.SOTT(8, 8, 3, rank=4))

    def forward(self, x: Tensor) -> Tensor:
        return layers.orthogonal_penalty(self.network).expand(len(x))


def plain_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1))


def convolution(size: int) -> nn.Conv2d:
    return nn.Conv2d(8, 6, size, padding=size // 2)


Example = tuple[Callable[[], nn.Module], tuple[int, ...]]

# of every layer and function of spectral_repro.layers: how to make a module, and the shape of its input
LAYERS: dict[str, list[Example]] = {
    "AveragePooling": [(partial(layers.AveragePooling, 8, 4), (4, 8, 5, 5))],
    "MaxPooling": [(partial(layers.MaxPooling, 8, 4), (4, 8, 5, 5))],
    "BilinearPooling": [(partial(layers.BilinearPooling, 8), (4, 8, 5, 5))],
    "CompactBilinearPooling": [(partial(layers.CompactBilinearPooling, 8, out_features=200), (4, 8, 5, 5))],
    "CovariancePooling": [
        (partial(layers.CovariancePooling, 8, 6), (4, 8, 5, 5)),
        (partial(layers.CovariancePooling, 8, decomposition="float32"), (4, 8, 2, 2)),
    ],
    "MinMax": [(layers.MinMax, (4, 8, 5, 5))],
    "PCADenoising": [
        (partial(layers.PCADenoising, 8, 3), (4, 8, 5, 5)),
        (partial(layers.PCADenoising, 8, None, information=0.9, group_size=4), (12, 8)),
    ],
    "SOC": [(partial(layers.SOC, 8, 6), (4, 8, 6, 6)), (partial(layers.SOC, 4, 8, 1, stride=2), (4, 4, 6, 6))],
    "SOTT": [(partial(layers.SOTT, 8, 6, rank=4), (4, 8, 6, 6))],
    "ScalingEigenBranch": [(partial(layers.ScalingEigenBranch, 8), (4, 8, 5, 5))],
    "TTConv2d": [(partial(layers.TTConv2d, 8, 6, 3, padding=1, rank=4), (4, 8, 6, 6))],
    "ZCAWhitening": [
        (partial(layers.ZCAWhitening, 8, 4), (4, 8, 5, 5)),
        (partial(layers.ZCAWhitening, 8, None, affine=False), (4, 8, 5, 5)),
        (partial(layers.ZCAWhitening, 8, 4, truncation="reference", decomposition="float32"), (12, 8)),
        (partial(layers.ZCAWhitening, 8, 4, truncation="reference_svd"), (4, 8, 5, 5)),
    ],
    "convert": [(lambda: layers.convert(plain_network(), layers.TTConv2d, rank=4), (4, 8, 6, 6))],
    "export": [(lambda: layers.export(layers.convert(plain_network(), layers.TTConv2d, rank=4)), (4, 8, 6, 6))],
    "orthogonal_penalty": [(Penalised, (4, 8, 6, 6))],
    "parametrizations.bounded_norm": [(lambda: parametrizations.bounded_norm(convolution(3), 6), (4, 8, 6, 6))],
    "parametrizations.clipped_singular_values": [
        (lambda: parametrizations.clipped_singular_values(convolution(3), 6), (4, 8, 6, 6))
    ],
    "parametrizations.skew_orthogonal": [(lambda: parametrizations.skew_orthogonal(convolution(1)), (4, 8, 6, 6))],
    "parametrizations.tucker": [(lambda: parametrizations.tucker(convolution(3), rank=4), (4, 8, 6, 6))],
}


def public_layers() -> set[str]:
    """The names that `LAYERS` must have."""
    own = {
        name for name, value in vars(parametrizations).items() if getattr(value, "__module__", "") == parametrizations.__name__
    }
    names = {f"parametrizations.{name}" for name in own if not name.startswith("_")}
    return names | set(layers.__all__) - BASES - {"Replacement", "parametrizations", "recalibrate"}


def layer_examples() -> list[tuple[str, Example]]:
    return [(f"{name}-{index}", example) for name, several in LAYERS.items() for index, example in enumerate(several)]


FUNCTIONS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "sqrtm": linalg.sqrtm,
    "inverse_sqrtm": partial(linalg.inverse_sqrtm, shift=1e-3),
    "powerm": partial(linalg.powerm, exponent=-0.3),
    "logm": linalg.logm,
    "expm": partial(linalg.expm, rate=-1.0),
    "eigh": linalg.eigh,
}


def functions_of(method: backward.Backward) -> list[str]:
    """The functions of a positive definite matrix for which a method has a meaning; it refuses the others."""
    possible = []
    for name, function in FUNCTIONS.items():
        with suppress(ValueError):
            function(torch.eye(2), backward=method)
            possible.append(name)
    return possible


def layers_of(method: backward.Backward) -> list[Example]:
    """Layers with this method."""
    examples = []
    for make, shape in [
        (partial(layers.ZCAWhitening, 8, 4, backward=method), (4, 8, 5, 5)),
        (partial(layers.PCADenoising, 8, 3, backward=method), (12, 8)),
        (partial(layers.CovariancePooling, 8, backward=method), (4, 8, 2, 2)),
    ]:
        with suppress(ValueError):
            make()
            examples.append((make, shape))
    return examples


# of every constraint: how to make it of a network and the shape of its images
CONSTRAINTS: dict[str, Callable[[nn.Module, tuple[int, int, int]], object]] = {
    name: partial(getattr(constraints, name), orthonormal_frames=False, clip_to=1.0, linear_to=1.0, batch_norm_to=1.0)
    for name in ("Clip", "DivideByExactLargest", "DivideByLargest", "DivideEachByLargest")
}


def constrained_network() -> nn.Module:
    convolutions = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), layers.TTConv2d(8, 6, 3, padding=1, rank=4)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def covariance(size: int, **options: object) -> Tensor:
    """A positive definite matrix (2, size, size)."""
    rows = torch.randn(2, size, 3 * size, **options)
    return rows @ rows.mT / (3 * size)
