"""What the papers' published code computes: from the files in tests/golden, and for other seeds from their formulas.

The formulas are written down plainly here, an entry at a time, and share nothing with the package. The layers must agree with
both: no test may lean on the numbers, sizes or seeds that happen to be in a file.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, unfold

FOLDER = Path(__file__).parent / "golden"
EVERY_SEED = pytest.mark.parametrize("seed", [None, 1, 2], ids=["published", "seed 1", "seed 2"])
EPS, MOMENTUM, ITERATIONS = 1e-4, 0.1, 19


@cache
def golden_numbers(name: str, seed: int | None = None) -> dict[str, Tensor]:
    """The numbers of a file, or those that it would hold for another seed."""
    if seed is None:
        with np.load(FOLDER / f"{name}.npz") as archive:
            return {key: torch.from_numpy(value) for key, value in archive.items()}
    generator = torch.Generator().manual_seed(seed)
    found = PLAIN[name](lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator))
    return {key: torch.as_tensor(value) for key, value in found.items()}


Draw = Callable[..., Tensor]


class PowerIterated(torch.autograd.Function):
    """V diag(f) V^T of the kept eigenvectors of one matrix, with the gradient of SVD-PI, f constant or x^(-1/2)."""

    @staticmethod
    def forward(ctx, matrix, power, kept):
        values, vectors = torch.linalg.eigh(matrix)
        values, vectors = values.flip(0), vectors.flip(1)
        f = [value**power if keep else 0.0 for value, keep in zip(values.tolist(), kept(values.tolist()), strict=True)]
        slopes = [power * value ** (power - 1) if each else 0.0 for value, each in zip(values.tolist(), f, strict=True)]
        ctx.saved = values.tolist(), vectors, f, slopes
        return vectors @ torch.diag(torch.tensor(f, dtype=matrix.dtype)) @ vectors.T

    @staticmethod
    def backward(ctx, gradient):
        values, vectors, f, slopes = ctx.saved
        kernel = torch.diag(torch.tensor(slopes, dtype=gradient.dtype))
        for i in range(len(values)):
            for j in range(i + 1, len(values)):
                powers = [(values[j] / values[i]) ** k for k in range(ITERATIONS + 1)]
                kernel[i, j] = kernel[j, i] = (f[i] * sum(powers) - f[j] * sum(powers[:-1])) / values[i]
        rotated = vectors.T @ ((gradient + gradient.T) / 2) @ vectors
        return vectors @ (kernel * rotated) @ vectors.T, None, None


def published_cut(values: list[float]) -> list[bool]:
    total = sum(values)
    return [sum(values[: i + 1]) < (1 - EPS) * total and values[i] > EPS for i in range(len(values))]


def correlated(draw: Draw, images: int, channels: int, size: int) -> Tensor:
    mixing = torch.eye(channels, dtype=torch.float64) + 0.4 * draw(channels, channels) / channels**0.5
    return torch.einsum("ij,njhw->nihw", mixing, draw(images, channels, size, size)) + draw(channels, 1, 1)


def zca(draw: Draw, d: int) -> dict[str, object]:
    found = {"weight": draw(16).requires_grad_(), "bias": draw(16).requires_grad_()}
    found |= {"eps": EPS, "momentum": MOMENTUM, "iterations": ITERATIONS, "x_eval": correlated(draw, 4, 16, 4)}
    running_mean, running = torch.zeros(16).double(), torch.eye(d).double().repeat(16 // d, 1, 1)

    def apply(rows: Tensor, matrices: list[Tensor], mean: Tensor, like: Tensor) -> Tensor:
        blocks = [m @ block for m, block in zip(matrices, (rows - mean[:, None]).split(d), strict=True)]
        y = found["weight"][:, None] * torch.cat(blocks) + found["bias"][:, None]
        return y.view(16, len(like), *like.shape[2:]).transpose(0, 1)

    for step in ("0", "1"):
        x, g = correlated(draw, 6, 16, 4).requires_grad_(), draw(6, 16, 4, 4)
        rows = x.transpose(0, 1).flatten(1)
        mean, matrices = rows.mean(1), []
        for block in (rows - rows.mean(1, keepdim=True)).split(d):
            covariance = block @ block.T / block.shape[1] + EPS * torch.eye(d).double()
            matrices.append(PowerIterated.apply(covariance, -0.5, published_cut))
        y = apply(rows, matrices, mean, x)
        dx, dweight, dbias = torch.autograd.grad(y, (x, found["weight"], found["bias"]), g)
        numbers = {"x": x.detach(), "g": g, "y": y.detach(), "dx": dx, "dweight": dweight, "dbias": dbias}
        found |= {key + step: value for key, value in numbers.items()}
        running_mean = (1 - MOMENTUM) * running_mean + MOMENTUM * mean.detach()
        running = (1 - MOMENTUM) * running + MOMENTUM * torch.stack(matrices).detach()
    y_eval = apply(found["x_eval"].transpose(0, 1).flatten(1), list(running), running_mean, found["x_eval"])
    found |= {"running_mean": running_mean, "running_matrices": running, "y_eval": y_eval}
    return {key: value.detach() if isinstance(value, Tensor) else value for key, value in found.items()}


def pca(draw: Draw) -> dict[str, object]:
    x, g, weight, bias = correlated(draw, 8, 24, 5).requires_grad_(), draw(8, 24, 5, 5), draw(24), draw(24)
    rows = x.transpose(0, 1).flatten(1)
    centred = rows - rows.mean(1, keepdim=True)
    standard = centred / (centred.square().sum(1, keepdim=True) / (rows.shape[1] - 1) + EPS).sqrt()
    correlation = standard @ standard.T / rows.shape[1] + EPS * torch.eye(24).double()
    projector = PowerIterated.apply(correlation, 0.0, lambda values: [i < 16 for i in range(len(values))])
    y = (weight[:, None] * (projector @ standard) + bias[:, None]).view(24, 8, 5, 5).transpose(0, 1)
    (dx,) = torch.autograd.grad(y, x, g)
    numbers = {"weight": weight, "bias": bias, "components": 16, "eps": EPS, "iterations": ITERATIONS}
    return numbers | {"x": x.detach(), "g": g, "y": y.detach(), "dx": dx}


def clip(draw: Draw, stride: int) -> dict[str, object]:
    """By the dense matrix of the circular operator, whose rows repeat the kernel at every place."""
    outputs, inputs, size = (7, 5, 8) if stride == 1 else (4, 6, 8)
    weight, limit = 0.3 * draw(outputs, inputs, 3, 3), 1.0
    places = range(0, size, stride)
    dense = torch.zeros(outputs, len(places), len(places), inputs, size, size, dtype=torch.float64)
    for p, row in enumerate(places):
        for q, column in enumerate(places):
            for k in range(3):
                for m in range(3):
                    dense[:, p, q, :, (row + k) % size, (column + m) % size] += weight[:, :, k, m]
    left, values, right = torch.linalg.svd(dense.view(outputs * len(places) ** 2, -1), full_matrices=False)
    clipped = (left * values.clamp_max(limit)) @ right
    kernel = clipped.view_as(dense)[:, 0, 0, :, :3, :3]
    numbers = {"weight": weight, "input_size": size, "stride": stride, "singular_values": values, "clip_to": limit}
    return numbers | {"clipped": kernel, "divided_exact": weight / max(1.0, values[0].item() / limit)}


def lip_bn(draw: Draw) -> dict[str, object]:
    weight, variance, bound = draw(6).float(), draw(6).square().float(), 0.8
    factor = max(abs(w) / math.sqrt(v + 1e-6) for w, v in zip(weight.tolist(), variance.tolist(), strict=True))
    return {"weight": weight, "running_var": variance, "bn_eps": bound, "divided": weight / max(1.0, factor / bound)}


def metrics(draw: Draw) -> dict[str, object]:
    logits, lipschitz, images = (2 * draw(500, 10)).float(), 1.7, 500
    labels = (logits + 2 * draw(500, 10)).argmax(1)
    bins, radii, right = [[] for _ in range(15)], [], 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        chances = [math.exp(value) / sum(map(math.exp, row)) for value in row]
        hit = row.index(max(row)) == label
        bins[math.ceil(15 * max(chances)) - 1].append((max(chances), hit))
        right += hit
        others = max(value for index, value in enumerate(row) if index != label)
        radii.append((row[label] - others) / (math.sqrt(2) * lipschitz))
    gaps = [abs(sum(chance for chance, _ in each) - sum(hit for _, hit in each)) for each in bins]
    certified = [radius for radius in radii if radius > 0]
    numbers = {"logits": logits, "labels": labels, "lipschitz": lipschitz, "ece_15_bins": sum(gaps) / images}
    numbers |= {"accuracy": right / images, "mean_certificate": sum(certified) / len(certified)}
    return numbers | {"certified_accuracy_36_255": sum(radius > 36 / 255 for radius in radii) / images}


def tt(draw: Draw) -> dict[str, object]:
    first, core, last = draw(10, 6) / 3, draw(6, 3, 3, 6) / 5, draw(6, 14) / 3
    bias, x = draw(14), draw(3, 10, 8, 8)
    kernel = torch.einsum("ia,aklb,bo->oikl", first, core, last)
    identity = torch.eye(6, dtype=torch.float64)
    penalty = sum((frame - identity).square().sum() for frame in (first.T @ first, last @ last.T))
    numbers = {"K1": first, "K2": core, "K3": last, "bias": bias, "x": x, "y": conv2d(x, kernel, bias, 2, 1)}
    return {key: value.float() for key, value in (numbers | {"penalty": penalty}).items()} | {
        "stride": 2,
        "padding": 1,
        "penalty_entries": 2 * 6**2,
    }


def svd_init(draw: Draw) -> dict[str, object]:
    """Two convolutions get the weight U[:c, :c] S^(-1/2) V^T[:c] of their patches, over the norm of what they then put out."""
    images, weights = draw(40, 3, 16, 16).abs(), [0.3 * draw(6, channels, 3, 3) for channels in (3, 6, 6)]
    found = {f"conv{number}_weight_before": weight for number, weight in enumerate(weights, 1)}
    features = max_pool2d(conv2d(images, weights[0], None, 2, 1), 2).relu()
    for number in (2, 3):
        patches = unfold(features, 3, padding=1).transpose(1, 2).flatten(0, 1)
        left, values, right = torch.linalg.svd(patches, full_matrices=False)
        weight = left[:6, :6] @ torch.diag(values[:6] ** -0.5) @ right[:6]
        weight = (weight / (patches @ weight.T).norm()).view(6, 6, 3, 3)
        found[f"conv{number}_weight"] = weight
        features = conv2d(features, weight, None, 1, 1).relu()
    rows = features.flatten(1)
    gram = rows @ rows.T
    return found | {"images": images, "features": features, "gram_ratio": gram.norm() / gram.trace()}


PLAIN: dict[str, Callable[[Draw], dict[str, object]]] = {
    **{f"wang2019_zca_svdpi_d{d}": lambda draw, d=d: zca(draw, d) for d in (4, 8, 16)},
    "wang2019_pca_svdpi": pca,
    "daneshmand2021_svd_init": svd_init,
    **{f"senderovich2022_clip_s{stride}": lambda draw, stride=stride: clip(draw, stride) for stride in (1, 2)},
    "senderovich2022_lip_bn": lip_bn,
    "senderovich2022_metrics": metrics,
    "senderovich2022_tt": tt,
}
