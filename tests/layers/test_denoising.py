"""PCA denoising against its formula, its derivative and its errors."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from spectral_repro.layers import PCADenoising
from spectral_repro.linalg.backward import Exact


def by_definition(x, groups, count_of, eps):
    """P S (x - mean) and the matrices P S, group by group in NumPy; ``count_of`` descending eigenvalues is how many stay."""
    batch, channels, height, width = x.shape
    blocks = np.split(x.numpy().transpose(1, 0, 2, 3).reshape(channels, -1), groups)
    outputs, matrices = [], []
    for block in blocks:
        scale = np.diag((block.var(axis=1, ddof=1) + eps) ** -0.5)
        correlation = scale @ np.cov(block, bias=True).reshape(len(block), -1) @ scale + eps * np.eye(len(block))
        values, vectors = np.linalg.eigh(correlation)
        kept = vectors[:, ::-1][:, : count_of(values[::-1])]
        matrices.append(kept @ kept.T @ scale)
        outputs.append(matrices[-1] @ (block - block.mean(axis=1, keepdims=True)))
    y = np.concatenate(outputs).reshape(channels, batch, height, width).transpose(1, 0, 2, 3)
    return torch.from_numpy(y.copy()), torch.from_numpy(np.stack(matrices))


def smallest_reaching(share):
    return lambda values: 1 + int(np.argmax(np.cumsum(values) >= share * values.sum()))


@pytest.mark.parametrize("group_size", [None, 4, 2])
@pytest.mark.parametrize("eps", [1e-4, 0.1])
def test_output_is_the_projection_of_the_standardised_channels(images, layout, group_size, eps):
    x = images(8)
    groups = 1 if group_size is None else 8 // group_size
    expected, _ = by_definition(x, groups, lambda _: 2, eps)
    layer = PCADenoising(8, 2, group_size=group_size, eps=eps).double()
    torch.nn.init.uniform_(layer.weight)
    torch.nn.init.uniform_(layer.bias)
    y = layer(layout(x))
    expected = layer.weight[:, None, None] * expected + layer.bias[:, None, None]
    torch.testing.assert_close(y, layout(expected), atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_information_keeps_the_fewest_components_in_every_group(images, share):
    x = images(24)
    expected, matrices = by_definition(x, 3, smallest_reaching(share), 1e-4)
    layer = PCADenoising(24, None, information=share, group_size=8, momentum=1.0).double()
    torch.testing.assert_close(layer(x), expected, atol=1e-11, rtol=1e-9)
    assert torch.equal(torch.linalg.matrix_rank(layer.evaluation_matrix), torch.linalg.matrix_rank(matrices))


def test_all_information_only_standardises(images):
    x = images(6)
    y = PCADenoising(6, None, information=1.0, affine=False).double()(x)
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True)
    torch.testing.assert_close(y, (x - mean) / (variance + 1e-4).sqrt())


@pytest.mark.parametrize(
    ("components", "truncation", "rank"),
    [(1, "none", 1), (5, "none", 5), (8, "none", 8), (5, "reference", 5), (8, "reference", 7)],
)
def test_output_has_the_rank_of_the_components_less_what_the_reference_drops(images, components, truncation, rank):
    y = PCADenoising(8, components, affine=False, eps=1e-9, truncation=truncation).double()(images(8))
    assert torch.linalg.matrix_rank(y.permute(0, 2, 3, 1).reshape(-1, 8), rtol=1e-9) == rank


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"components": 2},
        {"components": 1, "group_size": 2},
        {"components": None, "information": 0.7},
        {"components": 4, "truncation": "reference"},
    ],
    ids=["components", "groups", "information", "reference"],
)
def test_the_gradient_agrees_with_finite_differences(images, layout, options, affine):
    layer = PCADenoising(4, backward=Exact(), eps=0.01, affine=affine, **options).double()
    x = images(4, batch=3, size=2).requires_grad_()
    assert gradcheck(lambda x, *_: layer(layout(x)), (x, *layer.parameters()))


@pytest.mark.parametrize("group_size", [None, 4])
def test_running_averages_follow_the_formula(images, group_size):
    layer = PCADenoising(8, 3, group_size=group_size, momentum=0.3, running="matrix").double()
    mean, matrix = layer.running_mean.clone(), layer.running_matrix.clone()
    for seed in (0, 1):
        x = images(8, seed=seed)
        layer(x)
        mean = 0.7 * mean + 0.3 * x.mean((0, 2, 3))
        matrix = 0.7 * matrix + 0.3 * by_definition(x, len(matrix), lambda _: 3, 1e-4)[1]
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.evaluation_matrix, matrix, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"components": 0}, "components=0"),
        ({"components": 25}, "components=25"),
        ({"components": 9, "group_size": 8}, "components=9"),
        ({"components": 4, "information": 0.9}, "components=4 and information=0.9"),
        ({"components": None}, "components=None and information=None"),
        ({"components": None, "information": 0}, "information=0"),
        ({"components": None, "information": 1.5}, "information=1.5"),
        ({"components": None, "information": float("nan")}, "information=nan"),
        ({"truncation": "x"}, "truncation='x': must be none, reference or reference_svd"),
        ({"group_size": 7}, "group_size=7"),
    ],
)
def test_a_wrong_argument_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        PCADenoising(24, **options)


def test_repr_says_what_is_kept():
    assert "components=3" in repr(PCADenoising(8, 3))
    assert "information=0.9" in repr(PCADenoising(8, None, 0.9))
