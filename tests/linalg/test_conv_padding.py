"""Padding of every mode against torch.nn.Conv2d, and circular operators that bound it."""

import pytest
import torch
from torch import nn

from spectral_repro.linalg import conv_norm
from spectral_repro.linalg.conv_padding import circular_operator, pad_widths, padded_conv2d

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 2), "padding": (2, 1), "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation": (1, 2)},
    {"kernel_size": (4, 3), "padding": 2, "stride": (1, 3)},
    {"kernel_size": 3, "padding": "valid"},
]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_the_convolution_is_that_of_the_layer_and_the_circular_operator_bounds_it(mode: str):
    for seed, geometry in enumerate(GEOMETRIES):
        torch.manual_seed(seed)
        conv = nn.Conv2d(2, 4, padding_mode=mode, bias=False, dtype=torch.float64, **geometry)
        weight = conv.weight.detach()
        options = {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "padding_mode")}
        inputs = torch.eye(2 * 5 * 4, dtype=torch.float64).view(-1, 2, 5, 4)
        images = padded_conv2d(inputs, weight, groups=conv.groups, **options)
        torch.testing.assert_close(images, conv(inputs))
        assert pad_widths(conv.padding, conv.kernel_size, conv.dilation) == list(conv._reversed_padding_repeated_twice)
        size, factor = circular_operator((5, 4), conv.kernel_size, **options)
        bound = factor * conv_norm(weight, size, conv.stride, conv.groups, conv.dilation)
        norm = torch.linalg.matrix_norm(images.flatten(1), 2)
        assert norm <= bound * (1 + 1e-9) and bound <= 4 * norm
        assert mode != "zeros" or factor == 1


def test_circular_padding_that_keeps_the_size_is_the_circular_operator():
    assert circular_operator((6, 4), (3, 5), padding=(1, 2), padding_mode="circular") == ((6, 4), 1)
    assert circular_operator((6, 4), (3, 3), padding=1, stride=2, padding_mode="circular") == ((6, 4), 1)
    assert circular_operator((5, 4), (3, 3), padding=1, stride=2, padding_mode="circular") == ((8, 6), 2)


def test_another_padding_is_refused():
    with pytest.raises(ValueError, match="padding=-1: must be a whole number >= 0"):
        pad_widths(-1, (3, 3), 1)
