"""TT convolutions and SOTT: ranks, the composed kernel, orthonormal frames and their penalty."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from spectral_repro.layers import SOC, SOTT, TTConv2d, orthogonal_penalty
from tests.tolerance import tolerance


def composed(layer: TTConv2d) -> Tensor:
    """The kernel, entry by entry of the definition."""
    first, last = layer.reduction.weight[:, :, 0, 0], layer.expansion.weight[:, :, 0, 0]
    core, kernel = layer.core.weight, 0
    for b in range(core.shape[0]):
        for a in range(core.shape[1]):
            kernel = kernel + last[:, b, None, None, None] * first[None, a, :, None, None] * core[b, a]
    return kernel


def disturb(layer: nn.Module, noise: float) -> nn.Module:
    """The layer with frames that are no longer orthonormal."""
    with torch.no_grad():
        for part in (layer.reduction, layer.expansion):
            part.weight.add_(noise * torch.randn_like(part.weight))
    return layer


@pytest.mark.parametrize(
    ("channels", "options", "ranks"),
    [
        ((10, 14), {"rank": 6}, (6, 6)),
        ((3, 16), {"rank": 8}, (3, 8)),
        ((16, 3), {"rank": 8}, (8, 3)),
        ((10, 14), {"scale": 0.5}, (5, 7)),
        ((3, 10), {"scale": 0.25}, (1, 2)),
    ],
)
def test_ranks(channels, options, ranks):
    for layer in (TTConv2d(*channels, 3, padding=1, **options), SOTT(*channels, **options)):
        assert (layer.reduction.weight.shape[:2], layer.expansion.weight.shape[:2]) == (
            (ranks[0], channels[0]),
            (channels[1], ranks[1]),
        )
    assert TTConv2d(*channels, 3, **options).core.weight.shape == (ranks[1], ranks[0], 3, 3)


@pytest.mark.parametrize("options", [{"rank": 14}, {"rank": 1000}, {"scale": 1}, {"scale": 1.0}])
def test_a_rank_of_all_channels_leaves_the_core_alone(options):
    tt, sott = TTConv2d(10, 14, 3, 2, 1, **options), SOTT(10, 14, 3, 2, 1, **options)
    x = torch.randn(2, 10, 8, 8)
    assert list(tt.state_dict()) == ["core.weight", "core.bias"] and not tt.frames
    assert isinstance(sott.core, SOC) and len(sott) == 1
    torch.testing.assert_close(tt(x), conv2d(x, tt.weight, tt.core.bias, stride=2, padding=1))
    assert sott(x).shape == (2, 14, 4, 4)
    assert orthogonal_penalty(nn.Sequential(tt, sott)) == 0


@pytest.mark.parametrize(("rank", "stride", "padding", "bias"), [(4, 1, 1, True), (4, 2, 1, False), (20, 2, 0, True)])
def test_it_is_one_convolution_with_the_composed_kernel(rank: int, stride: int, padding: int, bias: bool):
    torch.manual_seed(0)
    layer = TTConv2d(5, 7, 3, stride, padding, bias=bias, rank=rank).double()
    if layer.framed:
        disturb(layer, 0.3)
        torch.testing.assert_close(layer.weight, composed(layer))
    x = torch.randn(2, 5, 9, 9, dtype=torch.float64)
    conv = layer.to_module()
    assert type(conv) is nn.Conv2d and conv.weight.dtype == torch.float64
    assert (conv.stride, conv.padding, conv.bias is not None) == ((stride, stride), (padding, padding), bias)
    torch.testing.assert_close(conv(x), layer(x))
    with torch.no_grad():
        conv.weight.zero_()
    assert layer.weight.any()


@pytest.mark.parametrize("kind", [TTConv2d, SOTT])
def test_frames_start_orthonormal(kind):
    layer = kind(6, 9, 3, padding=1, rank=4)
    for frame in layer.frames:
        torch.testing.assert_close(frame @ frame.mT, torch.eye(4))
    assert orthogonal_penalty(layer) < tolerance(torch.float32, terms=9) ** 2


def test_the_core_starts_orthogonal():
    core = TTConv2d(6, 9, 3, rank=4).core.weight
    matrix = core.transpose(0, 1).flatten(1)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(4))


def test_absorb_makes_the_frames_orthonormal_and_keeps_the_kernel():
    torch.manual_seed(0)
    layer = disturb(TTConv2d(5, 7, 3, rank=4).double(), 0.5)
    kernel = layer.weight.clone()
    layer.absorb()
    torch.testing.assert_close(layer.weight, kernel)
    assert orthogonal_penalty(layer) < tolerance(torch.float64, terms=7) ** 2
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in layer.parameters())


def test_with_orthonormal_frames_the_singular_values_are_those_of_the_core(operator):
    torch.manual_seed(0)
    layer = TTConv2d(5, 7, 3, 2, 1, rank=3, dtype=torch.float64)
    whole = torch.linalg.svdvals(operator(layer, 5, 6))
    core = torch.linalg.svdvals(operator(layer.core, 3, 6))
    torch.testing.assert_close(whole[: len(core)], core)
    assert whole[len(core) :].max() < 1e-12


def test_the_penalty_by_its_formula():
    torch.manual_seed(0)
    layers = [TTConv2d(6, 9, 3, rank=4), TTConv2d(6, 9, 1, rank=4), TTConv2d(3, 9, 3, rank=5), TTConv2d(6, 6, 3, rank=6)]
    layers.append(SOTT(9, 6, rank=4))
    model = nn.ModuleList(disturb(layer, 0.1) if layer.framed else layer for layer in layers).double()
    total, entries = 0, 0
    for layer in model:
        if layer.framed:
            first, last = layer.reduction.weight[:, :, 0, 0].T, layer.expansion.weight[:, :, 0, 0].T
            total += (first.T @ first - torch.eye(first.shape[1])).square().sum()
            total += (last @ last.T - torch.eye(last.shape[0])).square().sum()
            entries += 2 * last.shape[0] ** 2
    torch.testing.assert_close(orthogonal_penalty(model), total / entries)


def test_the_penalty_makes_frames_orthonormal_under_autocast_too():
    torch.manual_seed(0)
    layer = disturb(TTConv2d(6, 9, 3, rank=4), 0.1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=2)
    for _ in range(60):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            orthogonal_penalty(layer).backward()
        optimizer.step()
    assert orthogonal_penalty(layer) < 1e-9
    assert layer.core.weight.grad is None


@pytest.mark.parametrize("shape", [(5, 7, 3, 1, 4), (7, 5, 3, 2, 4), (6, 6, 1, 2, 3), (3, 8, 3, 1, 6)])
def test_sott_after_training(operator, shape):
    """With the frames orthonormal again all singular values are 1 or 0; as they are left by the training, the bound holds."""
    torch.manual_seed(0)
    *geometry, rank = shape
    layer = SOTT(*geometry, rank=rank).double()
    x = torch.randn(8, geometry[0], 6, 6, dtype=torch.float64)
    target = torch.randn_like(layer(x).detach())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        ((layer(x) - target).square().mean() + orthogonal_penalty(layer)).backward()
        optimizer.step()
    layer.eval()
    largest = torch.linalg.matrix_norm(operator(layer, geometry[0], 6), 2)
    assert orthogonal_penalty(layer) > 1e-8 and largest <= layer.lipschitz
    orthonormal = copy.deepcopy(layer)
    with torch.no_grad():
        for part in (orthonormal.reduction, orthonormal.expansion):
            left, _, right = torch.linalg.svd(part.matrix, full_matrices=False)
            part.matrix.copy_(left @ right)
    values = torch.linalg.svdvals(operator(orthonormal, geometry[0], 6))
    assert torch.minimum(values, (values - 1).abs()).max() < 1e-5
    assert values.max() <= orthonormal.lipschitz < 1 + 1e-4


def test_sott_is_soc_between_its_frames():
    torch.manual_seed(0)
    layer = SOTT(6, 9, 3, 2, 1, rank=4).eval()
    x = torch.randn(2, 6, 8, 8)
    y = layer.core(torch.einsum("ai,nihw->nahw", layer.reduction.matrix, x))
    expected = torch.einsum("ob,nbhw->nohw", layer.expansion.matrix, y) + layer.expansion.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected)
    assert layer.core.bias is None and layer.core.correction == SOTT(6, 9, 1, rank=4).core.correction == 0.7


def test_fewer_parameters():
    """r (C_in + C_out) + k^2 r^2 beside k^2 C_in C_out."""
    layer = TTConv2d(40, 50, 3, bias=False, rank=8)
    assert sum(p.numel() for p in layer.parameters()) == 8 * 90 + 9 * 64


@pytest.mark.parametrize("kind", [TTConv2d, SOTT])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "rank=None and scale=None: one of them"),
        ({"rank": 4, "scale": 0.5}, "rank=4 and scale=0.5: one of them"),
        ({"rank": 0}, "rank=0: must be a whole number >= 1"),
        ({"scale": 1.5}, "scale=1.5: must be > 0 and <= 1"),
        ({"scale": math.nan}, "scale=nan: must be > 0 and <= 1"),
    ],
)
def test_other_ranks_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(3, 4, 3, **options)


def test_attributes_of_a_convolution():
    torch.manual_seed(0)
    layer = TTConv2d(6, 9, 3, padding="same", dilation=2, padding_mode="reflect", rank=4, dtype=torch.bfloat16)
    assert layer.weight.shape == (9, 6, 3, 3) and layer.weight.dtype == torch.bfloat16 and layer.bias.shape == (9,)
    assert layer(torch.zeros(2, 6, 7, 7, dtype=torch.bfloat16)).shape == (2, 9, 7, 7)
    assert TTConv2d(6, 9, 3, rank=4, device="meta")(torch.empty(1, 6, 5, 5, device="meta")).shape == (1, 9, 3, 3)
    assert TTConv2d(6, 9, 3, rank=4, bias=False).bias is None
    layer = TTConv2d(6, 9, 3, rank=4)
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert not any(torch.allclose(value, before[name]) for name, value in layer.state_dict().items())
    assert orthogonal_penalty(layer) < 1e-11 and layer.relative_error is None
