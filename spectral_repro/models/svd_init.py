"""Initial weights from the singular vectors of a layer's inputs (daneshmand2021)."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from spectral_repro.bounds import Count
from spectral_repro.linalg.svd_weight import svd_weight
from spectral_repro.models.init import FirstImages, is_trained, patches_seen, xavier

LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv2d,),
    "linear": (nn.Linear,),
    "all": (nn.Conv2d, nn.Linear),
}
WITHOUT_SIZE = {"norm": "all zero", "std": "all equal"}  # outputs that cannot be scaled


@torch.no_grad()
def svd(
    model: nn.Module,
    first_images: FirstImages,
    *,
    images: Count = 256,
    layers: Literal["conv", "linear", "all"] = "conv",
    unit: Literal["norm", "std"] = "norm",
) -> None:
    """`xavier`, then the square layers, with C outputs and C inputs, from the SVD of their inputs.

    Training images pass through the network. The inputs of a square layer are the rows of X (N, P) = U diag(s) V^T: vectors, or
    the patches of a convolution, P = C k k. Its weight becomes U[:C, :C] diag(s_1, ..., s_C)^-e V^T[:C], e = 1/2 for
    convolutions and 1 for linear layers (`svd_weight`), divided by the Frobenius norm, or by the standard deviation, of the
    layer's output on these images. Prints the `gram_ratio` of the inputs of the classifier, before and after. As in the
    published code of Figures 3, 4 and 7, which divides by the norm.

    Args:
        model: has an attribute ``classifier``; normalisations and dropout depend on its mode.
        images: number of images; every layer needs N >= C.
        layers: square convolutions, linear layers or both, of trained weights. Grouped convolutions are not square. A layer
            that is applied several times gets the weight for its first inputs.
        unit: what is 1 for the outputs of a square layer. "norm": their Frobenius norm, as published. "std": their standard
            deviation, for networks with batch norm. Such a network does not depend on the length of its weights, but an
            update turns short weights further: with "norm", the first step of a usual learning rate replaces them.

    Raises:
        ValueError: for a network without a part named classifier or without such a layer, for too few images, for a
            parametrized weight, and for a layer whose outputs are all zero or, with "std", all equal.
    """
    if not hasattr(model, "classifier"):
        raise ValueError("the network has no part named classifier")
    xavier(model, first_images)
    square = [
        layer for layer in model.modules() if isinstance(layer, LAYERS[layers]) and _is_square(layer) and is_trained(layer)
    ]
    if not square:
        raise ValueError(f"layers={layers}: no such layer of this network has as many outputs as inputs")
    batch = first_images(images)
    before = _ratio_of_features(model, batch)
    fit = partial(_fit, unit=unit, fitted=set())
    hooks = [layer.register_forward_pre_hook(fit, with_kwargs=True) for layer in square]
    try:
        after = _ratio_of_features(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    print(
        f"{len(square)} layers from the SVD of their inputs on {len(batch)} images: Gram ratio {before:.4f}, then {after:.4f}"
    )


def gram_ratio(features: Tensor) -> Tensor:
    """|M|_F / tr M, M = H^T H, of features H (N, ...): 1 if all are in one direction, N^(-1/2) if they are orthonormal."""
    rows = features.flatten(1).double()
    gram = rows @ rows.mT
    return gram.norm() / gram.trace()


def _ratio_of_features(model: nn.Module, images: Tensor) -> Tensor:
    ratios: list[Tensor] = []
    with model.get_submodule("classifier").register_forward_pre_hook(
        lambda layer, inputs, named: ratios.append(gram_ratio(_first(inputs, named))), with_kwargs=True
    ):
        model(images)
    return ratios[0]


def _first(inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> Tensor:
    """The first input of a layer, by position or by keyword."""
    return (*inputs, *named.values())[0]


def _is_square(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels == layer.out_channels and layer.groups == 1
    return isinstance(layer, nn.Linear) and layer.in_features == layer.out_features


def _fit(
    layer: nn.Conv2d | nn.Linear,
    inputs: tuple[Tensor, ...],
    named: dict[str, Tensor],
    unit: Literal["norm", "std"],
    fitted: set[nn.Module],
) -> None:
    """Sets the weight of a layer just before it is applied for the first time."""
    if layer in fitted:
        return
    fitted.add(layer)
    x = _first(inputs, named)
    if isinstance(layer, nn.Conv2d):
        patches = patches_seen(layer, x)
        rows, exponent = patches.mT.flatten(0, 1), 1 / 2
    else:
        rows, exponent = x.flatten(0, -2), 1
    channels = len(layer.weight)
    if len(rows) < channels:
        raise ValueError(f"images={len(x)}: only {len(rows)} inputs for {channels} channels, take more")
    layer.weight.copy_(svd_weight(rows, channels, exponent).view_as(layer.weight))
    output = layer.forward(x)
    size = output.norm() if unit == "norm" else output.std()
    if size == 0:
        raise ValueError(f"images={len(x)}: the outputs of a layer of {channels} channels are {WITHOUT_SIZE[unit]}")
    layer.weight /= size
