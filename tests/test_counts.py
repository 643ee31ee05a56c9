"""Counts, such as numbers of iterations, channels and groups, must be whole numbers; the error names the argument."""

import inspect
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import torch
from torch import nn

from spectral_repro import constraints, layers, linalg, optim
from spectral_repro.layers import parametrizations
from spectral_repro.linalg import backward, polar, roots
from spectral_repro.linalg.svd_weight import svd_weight
from tests.every_class import BASES

MATRIX, KERNEL = torch.eye(4), torch.ones(4, 4, 3, 3)
SQUARE = {"in_channels": 4, "out_channels": 4}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())


def constrained(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **options: kind(network(), (3, 6, 6), False, **{"clip_to": 1.0} | options)


def parametrized(function: Callable[..., Any], *arguments: int) -> Callable[..., Any]:
    return lambda **options: function(nn.Conv2d(4, 4, 3), *arguments, **options)


# how to call each public function and class that takes a count
CALLS: dict[Callable[..., Any], Callable[..., Any]] = {
    linalg.clip_conv: partial(linalg.clip_conv, KERNEL, 6, 1.0),
    linalg.conv_norm: partial(linalg.conv_norm, KERNEL, 6),
    linalg.conv_norm_bound: partial(linalg.conv_norm_bound, KERNEL, 6),
    linalg.conv_power_iteration: partial(linalg.conv_power_iteration, KERNEL, torch.ones(1, 4, 6, 6)),
    linalg.conv_singular_values: partial(linalg.conv_singular_values, KERNEL, 6),
    linalg.orthogonalise_conv: partial(linalg.orthogonalise_conv, KERNEL, 6),
    linalg.tucker2: partial(linalg.tucker2, KERNEL, (2, 2)),
    roots.mpa: partial(roots.mpa, MATRIX),
    roots.mtp: partial(roots.mtp, MATRIX),
    roots.newton_schulz: partial(roots.newton_schulz, MATRIX),
    polar.newton_schulz_polar: partial(polar.newton_schulz_polar, MATRIX),
    svd_weight: partial(svd_weight, MATRIX, exponent=1.0),
    backward.Lyapunov: backward.Lyapunov,
    backward.NewtonSchulz: backward.NewtonSchulz,
    backward.Pade: backward.Pade,
    backward.PowerIteration: backward.PowerIteration,
    backward.Taylor: backward.Taylor,
    backward.TopN: backward.TopN,
    backward.UnrolledPowerIteration: backward.UnrolledPowerIteration,
    layers.AveragePooling: partial(layers.AveragePooling, in_channels=4),
    layers.BilinearPooling: partial(layers.BilinearPooling, in_channels=4),
    layers.CompactBilinearPooling: partial(layers.CompactBilinearPooling, in_channels=4),
    layers.CovariancePooling: partial(layers.CovariancePooling, in_channels=4),
    layers.MaxPooling: partial(layers.MaxPooling, in_channels=4),
    layers.PCADenoising: partial(layers.PCADenoising, num_features=4, components=2),
    layers.SOC: partial(layers.SOC, **SQUARE),
    layers.SOTT: partial(layers.SOTT, **SQUARE, rank=2),
    layers.ScalingEigenBranch: partial(layers.ScalingEigenBranch, in_channels=4),
    layers.TTConv2d: partial(layers.TTConv2d, **SQUARE, kernel_size=3, rank=2),
    layers.ZCAWhitening: partial(layers.ZCAWhitening, num_features=4),
    parametrizations.bounded_norm: parametrized(parametrizations.bounded_norm, 6),
    parametrizations.clipped_singular_values: parametrized(parametrizations.clipped_singular_values, 6),
    parametrizations.tucker: parametrized(parametrizations.tucker),
    constraints.Clip: constrained(constraints.Clip),
    constraints.DivideByExactLargest: constrained(constraints.DivideByExactLargest),
    constraints.DivideByLargest: constrained(constraints.DivideByLargest),
    constraints.DivideEachByLargest: constrained(constraints.DivideEachByLargest),
    optim.Muon: partial(optim.Muon, [nn.Parameter(KERNEL)]),
    optim.muon: lambda **options: optim.muon((model := network()).parameters(), model, **options),
}


def counts(function: Callable[..., Any]) -> list[str]:
    """The arguments that are a whole number, or one of other things; sizes, which may be pairs, are not among them."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = parameter.annotation
        kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        kinds = [get_args(kind)[0] if get_origin(kind) is Annotated else get_origin(kind) or kind for kind in kinds]
        if int in kinds and tuple not in kinds:
            found.append(parameter.name)
    return found


def test_everything_public_with_a_count_is_called_here():
    public = [getattr(package, name) for package in (linalg, backward, layers, constraints, optim) for name in package.__all__]
    own = [each for each in public if getattr(each, "__module__", "").startswith("spectral_repro.")]
    registering = [each for _, each in inspect.getmembers(parametrizations, inspect.isfunction)]
    own += [each for each in registering if each.__module__ == parametrizations.__name__ and not each.__name__.startswith("_")]
    missing = [each.__name__ for each in own if each not in CALLS and each.__name__ not in BASES and counts(each)]
    assert not missing


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_a_count_that_is_no_whole_number_in_range_is_named(function):
    assert counts(function)
    for name in counts(function):
        for value in (1.5, True, -1, "2"):
            with pytest.raises(ValueError, match=rf"^{name}={value!r}: must [^\n]*$"):
                CALLS[function](**{name: value})
